# Two commands do everything: `make demo` and `make test`. Both set up .venv first.
PYTHON ?= $(shell command -v python3.12 >/dev/null 2>&1 && python3.12 -c 1 2>/dev/null && echo python3.12 || (command -v python3.11 >/dev/null 2>&1 && python3.11 -c 1 2>/dev/null && echo python3.11) || echo python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet -c constraints.txt

.PHONY: demo test test-slow lint bench clean

.venv/core: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) --upgrade pip
	$(PIP) -e .[viz]
	@touch $@

.venv/test: .venv/core
	$(PIP) -e .[viz,live,label,deepmd,cluster,export,test,lint]
	@touch $@

demo: .venv/core
	$(BIN)/engine run silicon_melt

test: .venv/test
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/python -m pytest

test-slow: .venv/test
	$(BIN)/python -m pytest -m slow

lint: .venv/test
	$(BIN)/ruff check . && $(BIN)/pyright

clean:
	rm -rf .venv runs build *.egg-info
