"""The base of every error that bad input to `bench` can cause, and other libraries' errors in one line."""

from pydantic import ValidationError


class BenchError(Exception):
    """Bad input; the message is one sentence for the user that names the thing and the fix."""


class UnavailableError(BenchError):
    """A form turned out to be unable to run this head while it was prepared; the message says why."""


def message(error: BaseException) -> str:
    """Return another library's error as one line."""
    return f"{type(error).__name__}: {first_line(error)}"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message."""
    return (str(error).strip().splitlines() or [""])[0]


def unwritable(error: ValidationError) -> str:
    """Return which value a result file refuses, and why, as one sentence."""
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"])) or error.title
    rule = first["msg"].removeprefix("Input ")
    return f"cannot write the result: {field} {rule}, and it is {first['input']!r}; correct it where it comes from"


def printable(text: str) -> str:
    """Return `text` safe for a terminal: invisible characters, such as line breaks and escapes, become "?"."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
