# One-command entry points. `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

GPU := $(shell nvidia-smi -L >/dev/null 2>&1 && echo yes)
CONFIGS ?= $(if $(GPU),atari,atari small)
TASK ?=
LOGDIR ?= $(HOME)/logdir/$(or $(TASK),atari_pong)/dreamerv2/1
ARGS ?=
WORKERS ?= 2

RUNTIME := $(VENV)/.installed-$(if $(GPU),cuda,cpu)
DEV := $(VENV)/.installed-dev

.DEFAULT_GOAL := help
.PHONY: help train demo test bench lint docs constraints format clean
.DELETE_ON_ERROR:

help:  ## Show this list.
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16
	@echo
	@echo 'Variables of train: CONFIGS="$(CONFIGS)" TASK=$(or $(TASK),atari_pong)'
	@echo '  LOGDIR=$(LOGDIR) ARGS="--any flag"'
	@echo 'Variables of test: PYTEST_ARGS="-k name" WORKERS=2'
	@echo 'The interpreter that .venv is made with: PYTHON=$(PYTHON)'

train: $(RUNTIME)  ## Install into .venv, then train on Atari Pong (smaller agent without a GPU).
	$(BIN)/python dreamerv2/train.py --logdir "$(LOGDIR)" --configs $(CONFIGS) \
	  $(if $(TASK),--task "$(TASK)") $(ARGS)

demo: $(RUNTIME)  ## Let the small trained agent in demo/ play and dream, into demo-output/.
	$(BIN)/python dreamerv2/evaluate.py --logdir demo/catch --episodes 20 --video --dream \
	  --outdir demo-output
	@echo 'Look at demo-output/best.gif and demo-output/dream_image.png.'

test: lint  ## Run every check: formatting, types, import rules, tests.
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

bench: $(DEV)  ## Measure speed: updates, actions, cold start. ARGS="--short" for minutes.
	$(BIN)/python benchmarks/bench.py --output bench.json $(ARGS)
	@echo 'The numbers are in bench.json; ARGS="--against old.json" compares with an earlier file.'

lint: $(DEV)  ## Run the checks that execute nothing: ruff, mypy, import-linter.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(DEV)  ## Build the documentation into site/; a warning is an error.
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo 'Open site/index.html; $(BIN)/mkdocs serve shows changes while writing.'

constraints: $(DEV)  ## Write the versions that are installed in .venv to constraints.txt.
	@{ \
	  echo "# The versions that the tests ran with, on $$($(BIN)/python -V), as 'make constraints' wrote them:"; \
	  echo '#   pip install --constraint constraints.txt .'; \
	  $(BIN)/python -m pip freeze --exclude dreamerv2 --disable-pip-version-check; \
	} > constraints.new
	@mv constraints.new constraints.txt

format: $(DEV)  ## Rewrite the code in the project's style.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Delete .venv, caches and build products; never a log folder.
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamp files: installing again only after setup.py changed.

$(BIN)/python:
	@command -v "$(PYTHON)" >/dev/null || { \
	  echo 'error: there is no "$(PYTHON)"; name an interpreter, as in: make PYTHON=python3.12' >&2; \
	  exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "error: $(PYTHON) is $$("$(PYTHON)" -V 2>&1), but DreamerV2 needs Python 3.10 to 3.13;" \
	    "name another interpreter, as in: make PYTHON=python3.12" >&2; \
	  exit 2; }
	"$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); exit 2; }  # Leave no half of one behind.

$(VENV)/.installed-cpu: setup.py | $(BIN)/python
	@echo 'Installing into $(VENV); TensorFlow alone is a download of 500 to 650 MB.'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-cuda: setup.py | $(BIN)/python
	@echo 'Installing into $(VENV), with the CUDA libraries: a download of several GB.'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cuda]'
	@touch $@

$(DEV): setup.py | $(BIN)/python
	@echo 'Installing into $(VENV); TensorFlow alone is a download of 500 to 650 MB.'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
