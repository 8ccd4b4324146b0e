"""The base of every error that bad input to `bench` can cause, and how other libraries' errors are told."""


class BenchError(Exception):
    """Bad input; the message is one sentence that names the thing and the fix, fit to be shown to a user."""


class UnavailableError(BenchError):
    """A form cannot run this head here, which shows only when it is prepared; the message says why."""


def told(error: BaseException) -> str:
    """Return another library's error as one line."""
    return f"{type(error).__name__}: {first_line(error)}"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message."""
    return (str(error).strip().splitlines() or [""])[0]


def printable(text: str) -> str:
    """Return `text` fit for a terminal: what is not seen, such as a line break or an escape, becomes "?"."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
