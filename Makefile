# make demo: from nothing to drawn detections.  make test: lint, types and tests.
# Both create .venv where it is missing. PYTHON chooses the interpreter, e.g. make test PYTHON=python3.12
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := runs/demo

.PHONY: demo test slow mutants gpu

demo: $(VENV)/installed
	$(BIN)/python data/digits.py --output data/digits
	$(BIN)/python tools/train.py --config configs/digits.yaml --output $(DEMO) --resume
	rm -rf $(DEMO)/evaluation $(DEMO)/predictions $(DEMO)/report.html
	$(BIN)/python tools/evaluate.py --run $(DEMO)
	$(BIN)/python tools/predict.py --run $(DEMO) data/digits/val --output $(DEMO)/predictions
	$(BIN)/python tools/report.py --run $(DEMO)
	@echo
	@echo "drawn detections: $(DEMO)/predictions"
	@echo "figures:          $(DEMO)/evaluation/best/metrics.json"
	@echo "curves:           $(BIN)/tensorboard --logdir $(DEMO)/tensorboard"
	@echo "the run's page:   $(DEMO)/report.html"
	@echo "see what the losses do: docs/losses.html"

# One thread each: more threads than cores wait for each other.
TWO_FILES := --numprocesses 2 --dist loadfile --no-loadscope-reorder

test: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" $(TWO_FILES)

slow: $(VENV)/installed
	$(BIN)/python -m pytest -m slow

# Puts some 300 faults into the code, one at a time, and says which no test notices; takes twenty minutes on two cores.
mutants: $(VENV)/installed
	$(BIN)/python tests/mutants.py --output runs/mutants.md

# Needs an NVIDIA GPU and takes at most a quarter of an hour; runs in the present Python, where torch finds it.
gpu:
	PYTHONPATH=.$${PYTHONPATH:+:$$PYTHONPATH} $(PYTHON) tools/check_gpu.py --output runs/gpu_$$(date +%Y%m%d_%H%M%S)

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[test]'
	touch $@
