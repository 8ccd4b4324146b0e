"""Python without Triton's interpreter: kernels that are to be compiled need a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_compiled(*arguments: str, before: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Return what `python ARGUMENTS` did at the root of the repository, with TRITON_INTERPRET unset.

    Args:
        before: A folder whose packages come before those installed.
    """
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    if before is not None:
        environment["PYTHONPATH"] = f"{before}{os.pathsep}{ROOT}"
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1800)
