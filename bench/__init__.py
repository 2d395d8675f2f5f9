"""Measurements with their own load generator; `make bench` runs them."""
