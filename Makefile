# make demo       install, collect data, train the recommended model, show a table and a picture
# make test       install the test extra and run the tests, two files at a time
# make test-slow  the tests that run whole scripts or start processes
# make test-long  the tests that take minutes or repeat a slow one with other parts; not in CI
# make lint       ruff

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check --progress-bar off

.PHONY: demo test test-slow test-long lint

demo: $(VENV)/installed data/pendulum
	@$(RUN) scripts/demo.py --resume

test: $(VENV)/installed-test
	@$(RUN) tests/run.py

test-slow: $(VENV)/installed-test
	@$(RUN) tests/run.py --slow

test-long: $(VENV)/installed-test
	@$(RUN) tests/run.py --long

lint: $(VENV)/installed-test
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .

data/pendulum: | $(VENV)/installed
	@$(RUN) scripts/generate_data.py --output $@

$(VENV)/installed: setup.py
	@echo "installing into $(VENV): TensorFlow takes a few minutes"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --editable .
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	@echo "installing the test extra into $(VENV)"
	@$(PIP) --editable ".[test]"
	@touch $@
