"""The import arrows of the design: bench -> models, kernels, records of reports; the rooms below know nothing above."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.rooms import ROOT, check_rooms

ROOMS = ("bench", "kernels", "models", "reports")
MAY_IMPORT = {
    "kernels": {"kernels"},
    "models": {"models"},
    "reports": {"reports"},
    "bench": {"bench", "models", "kernels", "reports.record", "reports.timing"},
    # the command line is the one place that sees every room
    "bench.cli": {"bench", "models", "reports.errors"},
    "bench.commands.account": {"bench", "reports"},
    "bench.commands.bench": {"bench", "models", "reports"},
    "bench.commands.compare": {"bench", "reports"},
    "bench.commands.report": {"bench", "reports"},
    "bench.commands.sharpness": {"bench", "models", "reports"},
    "bench.commands.targets": {"bench", "kernels", "models", "reports"},
}


def imported(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return {name for name in found if name.split(".")[0] in ROOMS}


def violations(module: str, source: str) -> set[str]:
    allowed = MAY_IMPORT.get(module, MAY_IMPORT[module.split(".")[0]])
    inside = {name for name in imported(source) for room in allowed if name == room or name.startswith(f"{room}.")}
    return imported(source) - inside


MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_arrows(path: Path):
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    assert violations(module, path.read_text()) == set()


def test_a_wrong_arrow_is_seen():
    assert violations("models.x", "from bench.clock import timed") == {"bench.clock"}
    assert violations("kernels.x", "import models.cost") == {"models.cost"}
    assert violations("bench.measure", "from reports.stats import median") == {"reports.stats"}
    assert violations("bench.measure", "from reports.record import CaseRecord") == set()


def test_reports_work_without_torch_and_triton():
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name.split('.')[0] in ('torch', 'triton'): raise ImportError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import pkgutil, importlib, reports\n"
        "for found in pkgutil.iter_modules(reports.__path__): importlib.import_module('reports.' + found.name)"
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
