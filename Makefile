# Set-up happens once: every target needs the environment, and it is remade only when the pins or the needs change.
PYTHON ?= python3
BIN := .venv/bin
MOEGAP = $(BIN)/python -m bench.cli
READY := .venv/.ready

# Threads wait asleep, not spinning; set here so that it stands before any process imports torch.
export OMP_WAIT_POLICY = PASSIVE
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test lint gpu setup clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

# The main job on data that needs no download: train three heads, measure every form, build the report.
DEMO := runs/demo
demo: $(READY)
	$(MOEGAP) train --head dense --data digits --out $(DEMO)/dense
	$(MOEGAP) train --head soft --data digits --out $(DEMO)/soft
	$(MOEGAP) train --head sparse --data digits --out $(DEMO)/sparse
	$(MOEGAP) bench $(DEMO)/dense $(DEMO)/soft $(DEMO)/sparse --suite demo --out $(DEMO)/result.json --resume
	$(MOEGAP) report $(DEMO)/result.json --out $(DEMO)/report

test: lint
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# On a machine with a GPU: its tests first, then the quick suite; results go to $$OUT, or to runs/gpu.
# Where nothing can be installed, `make gpu READY= BIN=/folder/of/python` uses a Python that has what is needed.
GPU_OUT := $(if $(OUT),$(OUT),runs/gpu)
gpu: $(READY)
	TRITON_INTERPRET=0 $(BIN)/python -m pytest -m gpu
	$(MOEGAP) bench --suite demo --device cuda --dtype bfloat16 --dtype float32 --out $(GPU_OUT)/demo.json --resume
	$(MOEGAP) bench --suite paper --device cuda --dtype float32 --out $(GPU_OUT)/paper.json --resume
	$(MOEGAP) report $(GPU_OUT)/demo.json $(GPU_OUT)/paper.json --out $(GPU_OUT)/report

clean:
	rm -rf .venv runs build *.egg-info
