"""The import arrows of the design: bench -> models, kernels; bench and models -> file formats in reports.records."""

import ast
import subprocess
import sys

import pytest

from bench.errors import BenchError
from bench.rooms import ROOT, check_rooms

ROOMS = ("bench", "kernels", "models", "reports")
MAY_IMPORT = {
    "kernels": {"kernels"},
    "models": {"models", "reports.records"},
    "reports": {"reports"},
    "reports.records": {"reports.records", "reports.errors"},
    "bench": {"bench", "models", "kernels", "reports.records"},
    # the command line is the one place that sees every room
    "bench.cli": {"bench", "models", "reports.errors"},
    "bench.commands": {"bench", "kernels", "models", "reports"},
}
FOLDERS = {
    "bench": ("timing", "execution", "forms", "subjects", "correctness", "profile", "cases", "suites", "commands"),
    "kernels": ("launch", "problem", "cost", "ops", "paths", "choice", "call", "native", "compiled", "first"),
    "models": ("data", "routing", "heads", "classifier", "training", "policies", "sharpness", "zoo"),
    "reports": (
        "records", "numbers", "reading", "output", "speed", "account", "cases", "break_even", "noise", "profile",
        "training", "targets", "changes", "front",
    ),
}  # fmt: skip
"""The folders of each room; one imports only those before it."""
MOST_FILES = 16
"""Files of a folder beyond which a reader no longer finds one by its name."""


def imported(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return {name for name in found if name.split(".")[0] in ROOMS}


def violations(module: str, source: str) -> set[str]:
    parts = module.split(".")
    allowed = next(MAY_IMPORT[place] for n in (3, 2, 1) if (place := ".".join(parts[:n])) in MAY_IMPORT)
    inside = {name for name in imported(source) for room in allowed if name == room or name.startswith(f"{room}.")}
    return imported(source) - inside


def sources(room: str) -> dict[str, str]:
    """Return the source of every module of a room by its dotted name."""
    paths = sorted((ROOT / room).rglob("*.py"))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text() for path in paths}


@pytest.mark.parametrize("room", ROOMS)
def test_imports_follow_the_arrows(room: str):
    wrong = {module: violations(module, source) for module, source in sources(room).items()}
    assert {module: names for module, names in wrong.items() if names} == {}


def folder(module: str) -> int | None:
    """Return the place of the module's folder in its room's order; None for a file that lies beside the folders."""
    room, *inside = module.split(".")
    return FOLDERS[room].index(inside[0]) if inside and inside[0] in FOLDERS[room] else None


def backward(module: str, source: str) -> set[str]:
    """Return what a module in a folder imports from folders of its room that are not before its own."""
    here = folder(module)
    same_room = {name for name in imported(source) if name.split(".")[0] == module.split(".")[0]}
    return {name for name in same_room if here is not None and (there := folder(name)) is not None and there > here}


@pytest.mark.parametrize("room", ROOMS)
def test_imports_follow_the_order_of_the_folders(room: str):
    wrong = {module: backward(module, source) for module, source in sources(room).items()}
    assert {module: names for module, names in wrong.items() if names} == {}


@pytest.mark.parametrize("room", ROOMS)
def test_every_folder_has_a_place_in_the_order_and_few_files(room: str):
    folders = {path.parent for path in (ROOT / room).rglob("*.py")} - {ROOT / room}
    assert {found.relative_to(ROOT / room).parts[0] for found in folders} == set(FOLDERS[room])
    crowded = {str(found): len(list(found.glob("[!_]*.py"))) for found in folders}
    assert {name for name, files in crowded.items() if files > MOST_FILES} == set()


def test_a_wrong_arrow_is_seen():
    assert violations("models.x", "from bench.timing.clock import timed") == {"bench.timing.clock"}
    assert backward("bench.timing.x", "from bench.cases.measure import y") == {"bench.cases.measure"}
    assert backward("bench.cases.x", "from bench.timing.clock import timed") == set()
    assert violations("kernels.x", "import models.heads.cost") == {"models.heads.cost"}
    assert violations("bench.cases.measure", "from reports.numbers.stats import median") == {"reports.numbers.stats"}
    assert violations("bench.cases.measure", "from reports.records.record import CaseRecord") == set()


def test_reports_work_without_torch_and_triton():
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name.split('.')[0] in ('torch', 'triton'): raise ImportError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import pkgutil, importlib, reports\n"
        "for found in pkgutil.walk_packages(reports.__path__, 'reports.'): importlib.import_module(found.name)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_foreign_package_of_our_name_is_refused(tmp_path, monkeypatch):
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "kernels", raising=False)
    with pytest.raises(BenchError, match=r"kernels.*instead of"):
        check_rooms()
