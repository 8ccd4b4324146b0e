"""The base of every error that bad input to `bench` can cause."""


class BenchError(Exception):
    """Bad input; the message is one sentence that names the thing and the fix, fit to be shown to a user."""
