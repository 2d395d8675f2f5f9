"""The pending queue."""
