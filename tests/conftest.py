"""Settings that must be in place before the first `import triton` or `import torch`."""

import os

os.environ.setdefault("TRITON_INTERPRET", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
import torch


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip `gpu` tests, with the reason, where they cannot run as real GPU code."""
    if not torch.cuda.is_available():
        reason = "needs a CUDA device; none here"
    elif os.environ["TRITON_INTERPRET"] == "1":
        reason = "Triton's interpreter is on; `make gpu` runs these tests compiled"
    else:
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason=reason))
