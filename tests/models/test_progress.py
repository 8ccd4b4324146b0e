import io

from rich.console import Console

from models.progress import SILENT, Progress


def output(terminal: bool) -> str:
    file = io.StringIO()
    progress = Progress(Console(file=file, force_terminal=terminal, width=80))
    with progress.track(iter("abc"), 3, "counting") as items:
        assert list(items) == ["a", "b", "c"]
    progress.say("[done] 100%")
    return file.getvalue()


def test_only_lines_where_there_is_no_terminal() -> None:
    assert output(terminal=False) == "[done] 100%\n"


def test_a_bar_on_a_terminal() -> None:
    assert "counting" in output(terminal=True)


def test_silence() -> None:
    with SILENT.track([1, 2], 2, "unseen") as items:
        assert list(items) == [1, 2]
    SILENT.say("unheard")


def test_an_error_takes_the_bar_away() -> None:
    file = io.StringIO()
    progress = Progress(Console(file=file, force_terminal=True, width=80))
    items = progress.track([1, 2], 2, "counting")
    items.__enter__()
    assert items.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None) is False
    assert file.getvalue().rindex("\x1b[?25h") > file.getvalue().rindex("\x1b[?25l")  # the cursor is shown again
