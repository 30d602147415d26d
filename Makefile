# Every target does its own set-up in .venv; it needs Python 3.11+, make and pip.
#   make demo    train a small GPT, stop it, resume it           make demo ARGS="--steps 1000"
#   make test    run the tests                                   make test ARGS="tests/unit -x"
#   make check   lint, format, types, import layers
#   make bench   measure                                         make bench ARGS="--help"

PYTHON ?= python3
PIP_FLAGS ?= --quiet --disable-pip-version-check
ARGS ?=
BIN := .venv/bin

.PHONY: demo test check bench clean

demo: .venv/installed-demo
	$(BIN)/python examples/pretrain_gpt.py $(ARGS)

test: .venv/installed-dev
	$(BIN)/python -m pytest $(ARGS)

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/installed-bench
	$(BIN)/python -m benchmarks $(ARGS)

clean:
	rm -rf .venv build dist demo-output benchmarks/results
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# pip exists only once the environment is complete, so one that failed half-way is made again.
.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "streamkit needs Python 3.11 or newer, and $(PYTHON) is:" \
	    "$$($(PYTHON) --version 2>&1). Name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv .venv

# One stamp an extra; a changed pyproject.toml installs again.
.venv/installed-%: pyproject.toml | .venv/bin/pip
	@echo "installing streamkit-loader[$*] into .venv ..."
	@start=$$(date +%s); \
	  $(BIN)/python -m pip install $(PIP_FLAGS) --editable ".[$*]" && touch $@ && \
	  echo "installed in $$(( $$(date +%s) - start )) s"
