"""Models trained once for all tests of this room."""

from pathlib import Path

import pytest

from models.training.recipes import train_config
from models.training.train import train


@pytest.fixture(scope="session", params=["dense", "soft", "sparse"])
def demo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the checkpoint folder of the `demo` recipe of one head; do not write into it."""
    out = tmp_path_factory.mktemp("checkpoints") / request.param
    train(train_config("digits", request.param), out, device="cpu")
    return out
