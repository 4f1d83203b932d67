# `make sweep` and `make test` work from a bare clone: each sets up .venv first.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
ABLATION ?= dha
OUT    ?= runs/$(ABLATION)
ARGS   ?=
# Two test files at a time: the suite is made for two cores.
JOBS   ?= 2
export MLFLOW_DISABLE_TELEMETRY := true
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help install sweep report board test test-all check format clean

help:
	@echo "make sweep    demo sweep on composed scenes: summary, rows, MLflow runs, report (ABLATION=dha ARGS='dataset.limit=4')"
	@echo "make report   the report again, from OUT=$(OUT)"
	@echo "make board    a static site of the project's own results, into runs/board"
	@echo "make test     the test suite (ARGS='-k store'); make test-all adds the slow tests"
	@echo "make check    ruff, mypy, and documents against the stored rows"
	@echo "make clean    remove .venv and caches; results under runs/ stay"

$(VENV)/installed: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "no $(PYTHON); give one: make PYTHON=python3.11 ..."; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "$(PYTHON) is $$($(PYTHON) -V); Python 3.10 to 3.13 is needed: make PYTHON=python3.11 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@# Outside Python 3.11 some pinned versions do not exist: there the ranges of pyproject.toml decide.
	@# torch first and pinned, so that no other package can pull in a release with gigabytes of CUDA.
	$(BIN)/python -c 'import sys; print("-c constraints.txt" if sys.version_info[:2] == (3, 11) else "")' > $(VENV)/pins
	$(BIN)/pip install -q "$$(grep '^torch==' constraints.txt)" $$(cat $(VENV)/pins)
	$(BIN)/pip install -q -e '.[dev]' $$(cat $(VENV)/pins)
	@touch $@

install: $(VENV)/installed

sweep: install
	$(BIN)/python -m harness.sweep +ablation=$(ABLATION) out=$(OUT) $(ARGS)

report: install
	$(BIN)/python -m reports run=$(OUT)

board: install
	$(BIN)/python -m reports board out=runs/board

test: install
	$(BIN)/python -m pytest -m "not slow" -n $(JOBS) --dist loadfile $(ARGS)

test-all: install
	$(BIN)/python -m pytest $(ARGS)

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m reports docs check=true

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
