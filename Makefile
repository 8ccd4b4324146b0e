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

.PHONY: demo zoo published test tests lint kernels gpu gpu-first gpu-tune gpu-suites gpu-site gpu-wheels setup clean

setup: $(READY)

# uv does in one minute what takes pip four; pip, which knows its mirrors, does it if uv cannot.
INSTALL := pip install --quiet --constraint constraints.txt --editable '.[dev]'
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt uv
	$(BIN)/uv $(INSTALL) --python $(BIN)/python || $(BIN)/python -m $(INSTALL)
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

# Kernels must also compile by the oldest Triton that is supported, which lies beside the other packages.
OLDEST_TRITON := .venv/triton-3.6.0
$(OLDEST_TRITON): | $(READY)
	$(BIN)/python -m pip install --quiet --no-deps --target $@ triton==$(subst .venv/triton-,,$@)

# Linting runs beside the download of that Triton and the tests, which wait for processes now and then.
test: $(READY)
	$(MAKE) --jobs 2 lint tests

tests: $(OLDEST_TRITON)
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

# Every kernel under every option, compiled for every target by this Triton and by the oldest one that is supported: half
# an hour on two idle cores the first time.
kernels: $(READY) $(OLDEST_TRITON)
	env -u TRITON_INTERPRET $(BIN)/python -m kernels.inspect --beside $(OLDEST_TRITON) --json runs/kernels.json

# On a machine with a GPU, most important first; each step writes as it goes and runs whatever became of the one before.
# `make gpu` runs the first two targets; a non-zero status at the end names what failed. Results go to $$OUT, or to runs/gpu.
#   gpu-first     five minutes: what the first minutes should show, see kernels/first_minutes.py
#   gpu-tune      five minutes: options tuned for two layers, then the kernels' targets beside their peers
#   gpu-suites    nine minutes: the four suites, quick, of which each stops itself in time to write
# A machine without network gets what it lacks as wheels: `make gpu-wheels` gathers them here, and there
# `make gpu READY= BIN=/folder/of/python WHEELS=runs/gpu-wheels` installs them beside its packages, which stay as they are.
GPU_OUT := $(if $(OUT),$(OUT),runs/gpu)
GPU_SITE := $(CURDIR)/runs/gpu-site
GPU_FORMS := --form loop --form eager --form grouped_mm --form triton
GPU_SUITES := paper batch models scale
WITHIN = timeout --foreground --signal=INT --kill-after=10
GPU_RUN := --device cuda --dtype bfloat16 $(GPU_FORMS) --quick --resume
FAILED = [ -z "$$failed" ] || { echo "$@: failed:$$failed" >&2; exit 1; }
gpu-first gpu-tune gpu-suites: export PYTHONPATH := $(if $(WHEELS),$(GPU_SITE):)$(PYTHONPATH)
gpu-first gpu-tune gpu-suites: export TRITON_INTERPRET = 0

gpu:
	failed=; for step in gpu-first gpu-tune; do $(MAKE) $$step || failed="$$failed $$step"; done; $(FAILED)

gpu-first: $(READY) gpu-site
	mkdir -p $(GPU_OUT)
	$(WITHIN) 295 $(BIN)/python -m kernels.first_minutes --out $(GPU_OUT)

gpu-tune: $(READY) gpu-site
	mkdir -p $(GPU_OUT); failed=; \
	$(WITHIN) 110 $(BIN)/python -m kernels.tune --layers e128 paper --minutes 1.5 || failed="$$failed tune"; \
	find kernels/choice/tuned -name '*.json' -exec cp {} $(GPU_OUT) ';'; \
	$(WITHIN) 175 $(MOEGAP) targets --minutes 2.6 --out $(GPU_OUT)/targets || failed="$$failed targets"; \
	$(FAILED)

gpu-suites: $(READY) gpu-site
	mkdir -p $(GPU_OUT); failed=; \
	for suite in $(GPU_SUITES); do \
		case $$suite in scale) command=map;; *) command="bench --suite $$suite";; esac; \
		$(WITHIN) 130 $(MOEGAP) $$command $(GPU_RUN) --minutes 1.8 --out $(GPU_OUT)/$$suite.json || failed="$$failed $$suite"; \
	done; \
	$(FAILED)

# Nothing is replaced: the folder comes before the packages there, and holds only what they lack.
gpu-site:
	$(if $(WHEELS),$(BIN)/python -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade \
		--target $(GPU_SITE) $(WHEELS)/*.whl || echo "gpu-site: the wheels could not be installed" >&2)

gpu-wheels: $(READY)
	rm -rf runs/gpu-wheels
	$(BIN)/python -m pip download --quiet --dest runs/gpu-wheels --no-deps --only-binary=:all: --python-version 3.12 \
		--implementation cp --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 \
		--platform manylinux2014_x86_64 --constraint constraints.txt --requirement gpu-wheels.txt

clean:
	rm -rf .venv runs build *.egg-info
