"""A package, because eventkit installs another one named `tests` that would be found first."""
