# Set-up happens once: every target needs the environment, and it is remade only when the pins or the needs change.
PYTHON ?= python3
BIN := .venv/bin
MOEGAP = $(BIN)/python -m bench.cli
READY := .venv/.ready

# Threads wait asleep, not spinning; set here so that it stands before any process imports torch.
export OMP_WAIT_POLICY = PASSIVE
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Tests start many processes; each reads what the first one compiled.
export PYTHONDONTWRITEBYTECODE =

.PHONY: demo zoo published test lint kernels gpu gpu-suites setup clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

# The main job on what travels with the code: measure the zoo's trained heads in every form, profile them, look at their
# curvature, build the report.
DEMO := runs/demo
demo: $(READY)
	$(MOEGAP) bench --suite demo --out $(DEMO)/result.json --resume
	$(MOEGAP) sharpness models/zoo/fast-dense models/zoo/fast-soft models/zoo/fast-sparse --out $(DEMO)/sharpness
	$(MOEGAP) profile models/zoo/fast-sparse --out $(DEMO)/profile
	$(MOEGAP) report $(DEMO)/result.json $(DEMO)/profile/profile.json models/zoo/fast.json $(DEMO)/sharpness/*.json \
		--out $(DEMO)/report

# The zoo made again: a quarter of an hour per head on two idle cores. DATA may be a folder of images.
DATA ?= cifar10
zoo: $(READY)
	env -u OMP_WAIT_POLICY $(MOEGAP) train --head all --preset fast --data $(DATA) --out runs/zoo
	$(BIN)/python -m models.zoo runs/zoo
	rm -rf $(DEMO) # results of the old weights

# The report of every machine under reports/published, made again from its results into runs/published.
PUBLISHED := $(notdir $(patsubst %/,%,$(wildcard reports/published/*/)))
published: $(READY)
	for machine in $(PUBLISHED); do \
		paper=; [ ! -e reports/published/$$machine/training.json ] || paper=--paper; \
		$(MOEGAP) report reports/published/$$machine $$paper --out runs/published/$$machine || exit 1; \
	done

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

# Every kernel under every option, compiled for every target with this Triton and with the oldest one that is supported:
# twenty minutes on two idle cores the first time.
OLDEST := 3.6.0
.venv/triton-$(OLDEST): $(READY)
	$(BIN)/python -m pip install --quiet --no-deps --target $@ triton==$(OLDEST)

kernels: $(READY) .venv/triton-$(OLDEST)
	env -u TRITON_INTERPRET $(BIN)/python -m kernels.inspect --json runs/kernels.json
	env -u TRITON_INTERPRET PYTHONPATH=.venv/triton-$(OLDEST) $(BIN)/python -m kernels.inspect --json runs/kernels-$(OLDEST).json

# On a machine with a GPU, in nine minutes: its tests (150 s at most), the kernels' targets beside their peers (130 s),
# the four suites, quick (55 s each, of which a suite stops itself in time to write), the report (25 s). Each step runs
# whatever became of the one before; the status at the end is non-zero if any failed. Results go to $$OUT, or to runs/gpu.
# `make gpu-suites` takes nine minutes for the four suites alone.
# Where nothing can be installed, `make gpu READY= BIN=/folder/of/python` uses a Python that has what is needed.
GPU_OUT := $(if $(OUT),$(OUT),runs/gpu)
GPU_FORMS := --form loop --form eager --form grouped_mm --form triton
GPU_SUITES := paper batch models scale
SIDE_BY_SIDE = $(if $(shell $(BIN)/python -c "import xdist" 2>/dev/null && echo yes),-n 12)
WITHIN = timeout --foreground --signal=INT --kill-after=10
GPU_RUN := --device cuda --dtype bfloat16 $(GPU_FORMS) --quick --resume
MEASURE_SUITES = for suite in $(GPU_SUITES); do \
		case $$suite in scale) command=map;; *) command="bench --suite $$suite";; esac; \
		$(WITHIN) $(1) $(MOEGAP) $$command $(GPU_RUN) --minutes $(2) --out $(GPU_OUT)/$$suite.json || failed="$$failed $$suite"; \
	done
REPORT = $(MOEGAP) report $(GPU_SUITES:%=$(GPU_OUT)/%.json) $$(find $(GPU_OUT) -name targets.json) \
	--no-charts --out $(GPU_OUT)/report
gpu: $(READY)
	mkdir -p $(GPU_OUT); failed=; \
	TRITON_INTERPRET=0 $(WITHIN) 150 $(BIN)/python -m pytest -m gpu $(SIDE_BY_SIDE) --junit-xml=$(GPU_OUT)/tests.xml || failed="$$failed tests"; \
	$(WITHIN) 130 $(MOEGAP) targets --minutes 1.9 --out $(GPU_OUT)/targets || failed="$$failed targets"; \
	$(call MEASURE_SUITES,55,0.5); \
	$(WITHIN) 25 $(REPORT) || failed="$$failed report"; \
	[ -z "$$failed" ] || { echo "gpu: failed:$$failed" >&2; exit 1; }

gpu-suites: $(READY)
	mkdir -p $(GPU_OUT); failed=; \
	$(call MEASURE_SUITES,125,1.7); \
	$(WITHIN) 30 $(REPORT) || failed="$$failed report"; \
	[ -z "$$failed" ] || { echo "gpu-suites: failed:$$failed" >&2; exit 1; }

clean:
	rm -rf .venv runs build *.egg-info
