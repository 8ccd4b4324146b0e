import io

import pytest
from rich.console import Console

from models import progress as progress_module
from models.progress import SILENT, Progress, StudyProgress, duration


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


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the time in seconds, to be changed in place."""
    now = [100.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    return now


def test_the_time_left_follows_from_the_work_done(clock: list[float]) -> None:
    shown = StudyProgress(SILENT, runs=4)
    shown.begin("first")
    shown.reach(0, 10)
    assert shown.headline() == "run 1 of 4"
    clock[0] += 60
    shown.reach(5, 10)
    assert shown.headline() == "run 1 of 4, about 7 min left"  # 3.5 runs of 120 s
    clock[0] += 60
    shown.reach(10, 10)
    shown.begin("second")
    assert shown.headline() == "run 2 of 4, about 6 min left"


def test_what_was_done_before_took_no_time_now(clock: list[float]) -> None:
    shown = StudyProgress(SILENT, runs=3)
    shown.begin("finished before")
    shown.reach(10, 10)
    shown.begin("half done before")
    shown.reach(5, 10)
    assert shown.headline() == "run 2 of 3"
    clock[0] += 60
    shown.reach(10, 10)
    assert shown.headline() == "run 2 of 3, about 2 min left"


def test_lines_and_bars(clock: list[float]) -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=100, color_system=None, highlight=False)
    shown = StudyProgress(Progress(console), runs=2)
    shown.begin("sparse head, seed 0")
    shown.reach(0, 4)
    with shown.track(iter("abc"), 3, "epoch 1/4") as items:
        assert list(items) == ["a", "b", "c"]
    assert "run 1 of 2: sparse head, seed 0" in file.getvalue()
    assert "epoch 1/4" in file.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (3599, "1 h 00 min"), (7500, "2 h 05 min")]
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words
