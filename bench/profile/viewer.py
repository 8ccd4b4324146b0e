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

from tensorboard import default, main_lib, program

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
LOCAL = re.compile(r"(127\.0\.0\.1|localhost)(:\d+)?")


class LocalServer(program.WerkzeugServer):  # type: ignore[misc]
    """A server that answers requests to local names alone."""

    def __init__(self, app: App, flags: object) -> None:
        super().__init__(local_alone(app), flags)


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


if __name__ == "__main__":
    from absl import app

    threading.Thread(target=_end_with_caller, daemon=True).start()
    main_lib.global_init()
    board = program.TensorBoard(plugins=default.get_plugins(), server_class=LocalServer)
    app.run(board.main, flags_parser=board.configure)
