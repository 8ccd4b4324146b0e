"""What the documents show is there: commands and options, links, pictures, files, numbers and code that runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner

from bench.cli import app
from models.classifier.checkpoint import load
from models.config import head_config
from models.heads.heads import build_head

ROOT = Path(__file__).parents[1]
WORKFLOW = ".github/workflows/compare.yml"
DOCUMENTS = (
    "README.md", "bench/README.md", "bench/METHOD.md", "kernels/README.md", "models/README.md", "reports/README.md",
    "reports/published/README.md", "reports/published/cpu-amd-epyc-2-threads/NOTES.md",
    "reports/published/nvidia-h100-predicted/NOTES.md",
)  # fmt: skip
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in (*DOCUMENTS, WORKFLOW)}
README = TEXTS["README.md"]
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
LINES = sorted({
    line.split(" #")[0].strip() for text in TEXTS.values() for line in re.findall(r"\.venv/bin/moegap [a-z].*", text)
    if "COMMAND" not in line and "`" not in line
})  # fmt: skip
NAMED = sorted({name for text in TEXTS.values() for name in re.findall(r"`(?:\.venv/bin/)?moegap ([a-z][\w-]+)", text)})


def anchors(text: str) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def code(name: str) -> str:
    """Return the Python examples of a document, one after the other."""
    examples = re.findall(r"```python\n(.*?)```", TEXTS[name], re.DOTALL)
    assert examples
    return "".join(examples)


@pytest.mark.parametrize("line", LINES)
def test_every_command_and_option_exists(line: str) -> None:
    _, name, *words = shlex.split(line)
    options = {spelling for option in COMMANDS[name].params for spelling in (*option.opts, *option.secondary_opts)}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options


def test_commands_are_shown_and_each_that_is_named_exists() -> None:
    assert len(LINES) > 15
    assert {shlex.split(line)[1] for line in LINES} >= {"bench", "report", "compare", "profile", "traces", "account"}
    assert set(NAMED) <= set(COMMANDS)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_somewhere(name: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", TEXTS[name]):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_file_that_is_named_exists(name: str) -> None:
    """A path in backticks is seen from the document or from the root, unless a user or a command makes it."""
    paths = re.findall(r"`([\w./-]+/[\w./-]*|[\w-]+\.(?:py|json|png))`", TEXTS[name])
    missing = [path for path in paths if not any((base / path).exists() for base in (ROOT, (ROOT / name).parent))]
    assert [
        path for path in missing if not path.startswith(("train/", "test/", "runs/", "charts/", "config.json"))
    ] == []


@pytest.mark.parametrize("room", ["bench", "kernels", "models", "reports"])
def test_the_readme_of_a_room_names_all_its_folders(room: str) -> None:
    folders = {path.name for path in (ROOT / room).iterdir() if path.is_dir() and not path.name.startswith("__")}
    assert folders <= set(re.findall(r"^\| `(\w+)/` \|", TEXTS[f"{room}/README.md"], re.MULTILINE))


def test_pictures_of_a_report_are_shown_with_words() -> None:
    shown = {name: re.findall(r"!\[([^\]]+)\]\(([^)]+\.png)\)", TEXTS[name]) for name in DOCUMENTS}
    assert len(shown["README.md"]) == 1
    assert len(shown["reports/published/README.md"]) >= 3
    assert all(len(words) > 20 for pictures in shown.values() for words, _ in pictures)


def test_the_table_is_what_the_command_beside_it_prints() -> None:
    (line,) = [line for line in LINES if line.startswith(".venv/bin/moegap account") and line in README]
    printed = CliRunner().invoke(app, shlex.split(line)[1:]).output.splitlines()
    rows = re.findall(r"^\| ([\d,]+) \| (.+?) \| (.+?), (\w+) \| (.+?) \| ([A-Z]+) \|$", README, re.MULTILINE)
    assert len(rows) == 5
    for number, theoretical, attainable, limit, realised, verdict in rows:
        answer = next(text for text in printed if re.match(f"sparse head, {number} rows?:", text))
        assert f" {theoretical}, attainable {attainable} ({limit}, " in answer
        assert f", realised {realised}, {verdict}, " in answer


def test_the_readme_is_short_enough_to_be_read() -> None:
    assert len(README.splitlines()) <= 150
    assert [line for line in README.splitlines() if len(line) > 130 and "![" not in line] == []


def test_the_example_of_a_form_runs() -> None:
    scope: dict[str, Any] = {}
    exec(code("bench/README.md"), scope)
    form = scope["FORM"]
    device, dtype = torch.device("cpu"), torch.float32
    dense = head_config("dense")
    head, x = build_head(dense).eval().requires_grad_(False), torch.randn(3, dense.features)
    assert form.unavailable(dense, device, dtype) is None
    torch.testing.assert_close(form.prepare(head, x)(x), head(x))
    assert "relu" in form.unavailable(head_config("dense", activation="gelu"), device, dtype)


def test_the_example_of_a_layer_makes_checkpoints_that_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(code("models/README.md"), {})
    sparse, dense = (load(tmp_path / "runs" / name) for name in ("my-sparse", "my-dense"))
    assert sparse.features is not None
    assert sparse.model.head(sparse.features).shape == dense.model.head(sparse.features).shape == (256, 64)


@pytest.mark.parametrize("name", ["README.md", "kernels/README.md"])
def test_the_example_of_the_kernels_runs(name: str) -> None:
    scope = {
        "x": torch.randn(3, 16), "weight": torch.randn(4, 16), "bias": torch.randn(4),
        "w1": torch.randn(4, 16, 32), "b1": torch.randn(4, 32), "w2": torch.randn(4, 16, 8), "b2": torch.randn(4, 8),
    }  # fmt: skip
    exec(code(name), scope)
    assert scope["y"].shape == (3, 8)
