# Two commands do everything: `make demo` and `make test`. Both set up .venv first.
# Python 3.11 or 3.12: the first of these that is one.
PYTHON ?= $(shell for p in python3 python3.11 python3.12; do \
	$$p -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' \
	2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install -qq -c constraints.txt

.PHONY: demo test test-slow test-settings lint docs bench bench-quick clean

.venv/core: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "needs Python 3.11 or 3.12: make PYTHON=/path/to/it"; exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP) --upgrade pip
	$(PIP) -e .[viz]
	@touch $@

.venv/test: .venv/core
	$(PIP) -e .[viz,live,label,deepmd,cluster,export,fields,docs,test,lint]
	@touch $@

demo: .venv/core
	$(BIN)/engine run silicon_vacancies

test: .venv/test
	$(BIN)/ruff check .
	$(BIN)/pyright
	SCALEBRIDGE_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: .venv/test
	$(BIN)/python -m pytest -m slow

# The suite with other threads, instructions and order of tests: five runs.
test-settings: .venv/test
	$(BIN)/python tests/settings.py

lint: .venv/test
	$(BIN)/ruff check . && $(BIN)/pyright

# The site, in docs/_build; warnings are errors.
docs: .venv/core
	$(PIP) -e .[viz,docs]
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build

bench: .venv/test
	$(BIN)/engine bench architecture --quick

# Steps that got slower than the last time on this machine are an error.
bench-quick: .venv/test
	SCALEBRIDGE_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/engine bench quick

clean:
	rm -rf .venv runs build *.egg-info
