"""Python without Triton's interpreter: kernels that are to be compiled need a process of their own.

Importing torch and the kernels takes six seconds, compiling one a fraction of that. So one process imports them, and
a copy of it runs each script.
"""

import atexit
import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
OLDEST = ROOT / ".venv/triton-3.6.0"
"""The oldest Triton that is supported; `make test` puts it there."""
LONGEST = 1800
"""Seconds after which a script has hung."""

SERVER = """
import json, os, runpy, signal, sys, traceback
import kernels.compiled.jobs, kernels.compiled.row

for line in sys.stdin:
    longest, environment, said, errors, arguments = json.loads(line)
    child = os.fork()
    if child:
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    for path, stream in ((said, 1), (errors, 2)):
        os.dup2(os.open(path, os.O_WRONLY), stream)
    os.environ.update(environment)
    signal.alarm(longest)
    status = 0
    try:
        kind, script, *sys.argv[1:] = arguments
        if kind == "-m":
            runpy.run_module(script, run_name="__main__", alter_sys=True)
        else:
            exec(compile(script, "script", "exec"), {"__name__": "__main__"})
    except SystemExit as stop:
        status = stop.code or 0
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
"""
"""Runs each line of standard input in a copy of itself, and answers with its status."""


def run_compiled(*arguments: str, before: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Return what `python ARGUMENTS`, a script or a module, did at the root of the repository without the interpreter.

    Args:
        before: A folder whose packages come before those installed.
    """
    server = _server(before)
    assert server.stdin is not None
    assert server.stdout is not None
    with tempfile.NamedTemporaryFile() as said, tempfile.NamedTemporaryFile() as errors:
        print(json.dumps([LONGEST, _environment(), said.name, errors.name, arguments]), file=server.stdin, flush=True)
        status = int(server.stdout.readline())
        return subprocess.CompletedProcess(arguments, status, said.read().decode(), errors.read().decode())


@cache
def _server(before: Path | None) -> subprocess.Popen[str]:
    """Return a process that has imported the kernels; it ends with this one."""
    packages = {} if before is None else {"PYTHONPATH": f"{before}{os.pathsep}{ROOT}"}
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        cwd=ROOT, env=_environment() | packages, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    atexit.register(server.communicate)
    return server


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
