"""The commands of `python -m relay`; each is imported when it is used."""
