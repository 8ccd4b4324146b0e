import io

import pytest
from rich.console import Console

from models.progress import SILENT, Progress
from models.training import study_progress
from models.training.study_progress import StudyProgress, duration


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the time in seconds, to be changed in place."""
    now = [100.0]
    monkeypatch.setattr(study_progress.time, "monotonic", lambda: now[0])
    return now


def test_the_time_left_follows_from_the_work_done(clock: list[float]) -> None:
    told = StudyProgress(SILENT, runs=4)
    told.begin("first")
    told.reach(0, 10)
    assert told.headline() == "run 1 of 4"
    clock[0] += 60
    told.reach(5, 10)
    assert told.headline() == "run 1 of 4, about 7 min left"  # 3.5 runs of 120 s
    clock[0] += 60
    told.reach(10, 10)
    told.begin("second")
    assert told.headline() == "run 2 of 4, about 6 min left"


def test_what_was_done_before_took_no_time_now(clock: list[float]) -> None:
    told = StudyProgress(SILENT, runs=3)
    told.begin("finished before")
    told.reach(10, 10)
    told.begin("half done before")
    told.reach(5, 10)
    assert told.headline() == "run 2 of 3"
    clock[0] += 60
    told.reach(10, 10)
    assert told.headline() == "run 2 of 3, about 2 min left"


def test_lines_and_bars(clock: list[float]) -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=100, color_system=None, highlight=False)
    told = StudyProgress(Progress(console), runs=2)
    told.begin("sparse head, seed 0")
    told.reach(0, 4)
    with told.track(iter("abc"), 3, "epoch 1/4") as items:
        assert list(items) == ["a", "b", "c"]
    assert "run 1 of 2: sparse head, seed 0" in file.getvalue()
    assert "epoch 1/4" in file.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (3599, "1 h 00 min"), (7500, "2 h 05 min")]
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words
