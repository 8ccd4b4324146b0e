"""Settings that must be in place before the first `import triton` or `import torch`.

What takes seconds to import is imported where it is used: the process that only hands out tests need not wait for it.
"""

import gc
import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("TRITON_INTERPRET", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")  # trying each set of vector instructions takes twenty seconds

import pytest
from hypothesis import settings

settings.register_profile("beside others", deadline=None)
settings.load_profile("beside others")

PLOTTING = ("altair", "vl_convert", "playwright")
NEED_PLOTTING = (
    "reports", "bench/forms/test_registry.py", "journeys/test_compare_command.py", "journeys/test_policies_command.py",
    "journeys/test_pytest_bench.py", "journeys/test_traces.py",
)  # fmt: skip
"""What cannot be collected on a machine that measures and draws nothing; no test there needs a GPU."""
collect_ignore = [] if all(map(find_spec, PLOTTING)) else list(NEED_PLOTTING)


LONG = (
    "kernels/test_inspect.py", "kernels/native", "commands/test_targets.py", "kernels/first", "test_published.py",
    "tests/journeys", "forms/test_forms.py",
)  # fmt: skip
"""Whose tests take longest; they begin first, because one that begins last keeps a worker busy while others idle."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long tests first, and skip `gpu` tests, with the reason, where they cannot run as real GPU code."""
    import torch

    items.sort(key=lambda item: next((place for place, name in enumerate(LONG) if name in item.nodeid), len(LONG)))
    if not torch.cuda.is_available():
        reason = "needs a CUDA device; none here"
    elif os.environ["TRITON_INTERPRET"] == "1":
        reason = "Triton's interpreter is on; `make gpu` runs these tests compiled"
    else:
        return
    for item in items:
        if item.get_closest_marker("gpu"):  # not item.keywords, which hold the names of folders too
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish() -> None:
    """Spare the collector, which sampling calls before every block, the modules and the thousands of tests."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Give them back to it, for an orderly end."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a small trained checkpoint of each head by its kind; do not write into them."""
    from models.training.recipes import train_config
    from models.training.train import train

    folder = tmp_path_factory.mktemp("trained")
    kinds = ("dense", "soft", "sparse")
    for kind in kinds:
        train(train_config("digits", kind, epochs=1), folder / kind, device="cpu")
    return {kind: folder / kind for kind in kinds}


@pytest.fixture
def in_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process, and return its status and what it said on either stream."""

    from bench import cli

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["moegap", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        said = capsys.readouterr()
        return stop.value.code or 0, said.out, said.err

    return run


@pytest.fixture(scope="session", autouse=True)
def beside_others() -> None:
    """Keep to one thread, measure ceilings in a moment, and let Triton's interpreter do nothing in vain."""
    import torch

    from tests import quick  # noqa: F401
    from tests.interpreter import quicken_interpreter

    torch.set_num_threads(1)
    if os.environ["TRITON_INTERPRET"] == "1":
        quicken_interpreter()
