"""Data sets and domains."""
