"""TensorBoard as `moegap traces` runs it: for browsers on this machine, and no longer than its caller.

A page of somebody else whose name leads to 127.0.0.1 could read the traces, so only local names are answered. The
caller holds the other end of this process's standard input, which closes however the caller ends.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
LOCAL = re.compile(r"(127\.0\.0\.1|localhost)(:\d+)?")


def local_alone(app: App) -> App:
    """Return `app` with status 403 for every request to another host."""

    def answer(request: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if LOCAL.fullmatch(request.get("HTTP_HOST", "")):
            return app(request, start)
        start("403 Forbidden", [("Content-Type", "text/plain")])
        return [b"Open the address that moegap printed."]

    return answer


def _end_with_caller() -> None:
    """Wait until the caller ends, then end all that this process has started and itself."""
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Run TensorBoard as the command line says."""
    from absl import app
    from tensorboard import default, main_lib, program

    threading.Thread(target=_end_with_caller, daemon=True).start()
    main_lib.global_init()
    board = program.TensorBoard(
        plugins=default.get_plugins(),
        server_class=lambda app, flags: program.WerkzeugServer(local_alone(app), flags),
    )
    app.run(board.main, flags_parser=board.configure)


if __name__ == "__main__":
    main()
