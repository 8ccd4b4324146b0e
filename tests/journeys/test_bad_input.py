"""Bad input: one sentence on stderr that names the thing, a non-zero status, no traceback."""

import hashlib
import json
import shutil
import sys
from functools import partial

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bench import cli
from bench.timing import ceilings
from tests.bench.checkpoints import sparse_checkpoint


@pytest.fixture
def moegap(monkeypatch, capsys):
    """Run the command line and return its status and what it said on stderr."""
    monkeypatch.setattr(ceilings, "measure_ceilings", partial(ceilings.measure_ceilings, seconds=0.2))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["moegap", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return stop.value.code, capsys.readouterr().err

    return run


@pytest.fixture
def place(trained, tmp_path):
    """A folder with a good checkpoint, damaged ones, and files of many kinds."""
    sparse_checkpoint(tmp_path / "perfect", test_accuracy=1.5)
    for name in ("good", "truncated-weights", "truncated-config", "no-weights", "other-config", "nan"):
        shutil.copytree(trained["sparse"], tmp_path / name)
    spoil(tmp_path / "nan")
    weights = tmp_path / "truncated-weights" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    config = tmp_path / "truncated-config" / "config.json"
    config.write_text(config.read_text()[:200])
    (tmp_path / "no-weights" / "model.safetensors").unlink()
    other = tmp_path / "other-config" / "config.json"
    document = json.loads(other.read_text())
    document["model"]["head"]["k"] = 99
    other.write_text(json.dumps(document))
    width = json.loads((tmp_path / "good" / "config.json").read_text())["model"]["head"]["features"]
    np.save(tmp_path / "x.npy", np.zeros((3, width), dtype=np.float32))
    np.save(tmp_path / "wide.npy", np.zeros((3, width + 1), dtype=np.float32))
    np.save(tmp_path / "flat.npy", np.zeros(width, dtype=np.float32))
    shape = json.loads((tmp_path / "good" / "config.json").read_text())["input"]["shape"]
    np.save(tmp_path / "integers.npy", np.full((2, *shape), 200))
    np.save(tmp_path / "bright.npy", np.full((2, *shape), 200.0))
    np.save(tmp_path / "long.npy", np.zeros((3, width), dtype=np.longdouble))
    np.save(tmp_path / "text.npy", np.array(["a", "b"]))
    np.savez(tmp_path / "several.npz", a=np.zeros(3))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:90])
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "broken.json").write_text('{"benchmarks": [')
    (tmp_path / "foreign.json").write_text('{"answer": 42}')
    (tmp_path / "empty").mkdir()
    (tmp_path / "half" / "train" / "cat").mkdir(parents=True)
    return tmp_path


def spoil(folder):
    """Make every weight of a checkpoint NaN and its hash true."""
    weights = {name: np.full_like(value, np.nan) for name, value in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    config["sha256"]["model.safetensors"] = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    (folder / "config.json").write_text(json.dumps(config))


INFER = [
    ("missing x.npy", "no checkpoint"),
    ("file x.npy", "file"),
    ("empty x.npy", "empty"),
    ("truncated-weights x.npy", "model.safetensors"),
    ("truncated-config x.npy", "config.json"),
    ("no-weights x.npy", "model.safetensors"),
    ("other-config x.npy", "k = 99"),
    ("good missing.npy", "missing.npy"),
    ("good wide.npy", "takes features"),
    ("good flat.npy", "takes features"),
    ("good text.npy", "real numbers"),
    ("good several.npz", "several.npz"),
    ("good cut.npy", "cut.npy"),
    ("good file", "numpy.save"),
    ("good x.npy --form jax", "eager, grouped_mm"),
    ("good x.npy --device tpu", "tpu"),
    ("good x.npy --dtype fp8", "float32, float16, bfloat16"),
    ("good x.npy --images", "takes images"),
    ("good integers.npy --images", "uint8"),
    ("good bright.npy --images", "uint8"),
    ("good long.npy", "real numbers"),
    ("good x.npy --form onnxruntime --dtype bfloat16", "bfloat16"),
    ("good x.npy --out file/y.npy", "file/y.npy"),
    ("good x.npy --out nowhere/y.npy", "nowhere/y.npy"),
    ("good x.npy --out empty", "cannot write empty"),
]
OTHER = [
    ("train --head tiny --data digits --out t", "dense, soft, sparse"),
    ("train --head sparse --data digits --k 9 --out t", "k = 9"),
    ("train --head sparse --data digits --k 0 --out t", "k"),
    ("train --head sparse --data digits --epochs 0 --out t", "epochs"),
    ("train --head sparse --data digits --preset huge --out t", "huge"),
    ("train --head sparse --data missing --out t", "missing"),
    ("train --head sparse --data empty --out t", "empty"),
    ("train --head sparse --data half --out t", "half"),
    ("train --head sparse --data digits --epochs 1 --out file", "file"),
    ("train --head sparse --data digits --epochs 2 --out good", "good"),
    ("train --data digits --out t", "--head"),
    ("bench good --suite huge --out r.json", "demo, paper, batch"),
    ("bench good --form jax --out r.json", "eager, grouped_mm"),
    ("bench missing --out r.json", "missing"),
    ("bench good --out x.npy", "--resume"),
    ("bench good --out broken.json --resume", "broken.json"),
    ("bench good --out file/r.json", "file"),
    ("bench nan --form eager --rows 4 --seconds 0.01 --out r.json", "deviate"),
    ("bench perfect --form eager --rows 4 --seconds 0.01 --out r.json", "test_accuracy should be less than or equal"),
    ("bench good --form triton --rows 4 --out r.json", "nothing could be measured"),
    ("bench good --seconds -1 --out r.json", "seconds"),
    ("bench good --rows 0 --out r.json", "rows"),
    ("bench good --routing zipf9 --out r.json", "uniform, zipf1"),
    ("bench good --threads 0 --out r.json", "threads"),
    ("bench good --minutes 0 --out r.json", "minutes"),
    ("bench good --suite scale --out r.json", "moegap map"),
    ("bench --self-test --out r.json", "--self-test"),
    ("map good --out r.json", "good"),
    ("map --rows 8 --out r.json", "--rows"),
    ("map --form jax --out r.json", "eager, grouped_mm"),
    ("map --out x.npy", "--resume"),
    ("map --out broken.json --resume", "broken.json"),
    ("map --minutes 0 --out r.json", "minutes"),
    ("self-test --out x.npy", "x.npy"),
    ("self-test --comparisons 0 --out r.json", "comparisons"),
    ("account missing.json", "missing.json"),
    ("account foreign.json", "foreign.json"),
    ("report missing.json", "missing.json"),
    ("report broken.json", "broken.json"),
    ("report foreign.json", "foreign.json"),
    ("report empty", "empty"),
    ("report", "result file"),
    ("compare missing.json foreign.json", "missing.json"),
    ("compare foreign.json broken.json", "foreign.json"),
    ("compare foreign.json foreign.json --least five", "5%"),
    ("profile missing", "missing"),
    ("profile good --form jax", "eager, grouped_mm"),
    ("profile good --rows 0", "rows"),
    ("profile good --rows 9 --rows 0", "rows"),
    ("profile good --graph --device cpu", "--graph"),
    ("profile good --out file", "file"),
    ("traces missing", "missing"),
    ("traces file", "file"),
    ("traces empty", "empty"),
    ("traces empty --port 99999", "port"),
    ("targets --rehearse --minutes -1 --out t", "minutes"),
    ("targets --rehearse --out file", "file"),
    ("unheard-of", "unheard-of"),
]


HOSTILE = {
    "trace.json": '{"traceEvents": [], "schemaVersion": 1}',
    "deep.json": "[" * 5_000 + "]" * 5_000,
    "cut.json": '{"benchmarks": [{"stats": {"data": [0.1, 0.',
    "plain.json": '{"benchmarks": [{"name": "a", "stats": {"data": [1.0]}, "extra_info": 3}]}',
    "escape.json": '{"benchmarks": [{"extra_info": {"case_id": "\\u001b[31m\\nred", "schema_version": 1}}]}',
    "newer.json": '{"benchmarks": [{"extra_info": {"case_id": "a", "schema_version": 99}}]}',
    "newer-study.json": '{"kind": "training", "format": 99}',
    "nan.json": '{"kind": "training", "format": 1, "preset": NaN, "data": "d", "epochs": 1, "runs": []}',
}


@pytest.mark.parametrize("command", ["report", "account"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_leaves_one_line_and_the_old_report(tmp_path, moegap, command, name):
    (tmp_path / name).write_text(HOSTILE[name])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "index.html").write_text("the old report")
    status, said = moegap(command, tmp_path / name, *(["--out", tmp_path / "out"] if command == "report" else []))
    assert status not in (0, None)
    assert said.startswith("moegap: ")
    assert name in said
    assert said.removesuffix("\n").isprintable()
    assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["the old report"]


@pytest.mark.parametrize(
    ("line", "named"),
    [(f"infer {line}" + ("" if "--out" in line else " --out y.npy"), named) for line, named in INFER] + OTHER,
)
def test_one_sentence_and_a_status(place, moegap, monkeypatch, line, named):
    monkeypatch.chdir(place)
    before = sorted(path for path in place.rglob("*") if path.is_file())
    status, said = moegap(*line.split())
    assert status not in (0, None)
    assert said.startswith("moegap: ")
    assert said.count("\n") == 1, said
    assert named in said
    assert "Traceback" not in said
    assert [path for path in before if not path.exists()] == []
    assert not [path for path in place.rglob("*") if path.suffix in (".tmp", ".lock")]
