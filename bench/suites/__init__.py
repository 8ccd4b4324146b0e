"""Which cases are measured."""
