"""Whether everything that the GPU path needs can be imported there."""

from importlib import import_module, metadata
from pathlib import Path
from pkgutil import walk_packages

from kernels.first.log import Log

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("kernels", "bench", "models", "reports.records", "reports.targets")
PEERS = ("liger-kernel", "moe-ops")


def imports(log: Log) -> None:
    """Import every module of the rooms, log those that fail, and the versions of the peers."""
    failures = 0
    for room in ROOMS:
        for name in (module.name for module in walk_packages([str(ROOT.joinpath(*room.split(".")))], f"{room}.")):
            try:
                import_module(name)
            except Exception as error:
                failures += 1
                log.failed(error, module=name)
    log.write(ok=failures == 0, peers={name: _version(name) for name in PEERS})


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
