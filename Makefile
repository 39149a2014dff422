# make run, make test: see README.md. Windows and macOS without make: README gives the plain lines.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test lab notebooks experiments set-repo clean

run: .venv/course  ## set up, find the data, run chapters 01 to 04 in full into build/
	$(BIN)/python notebooks/run.py $(ARGS)

test: .venv/tests  ## set up, lint, unit tests, notebooks in quick mode
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -q --durations=5

lab: .venv/course  ## JupyterLab on the notebooks
	$(BIN)/jupyter lab notebooks

notebooks: .venv/tests  ## refresh stored outputs, reference models and README's picture from a full run
	$(BIN)/python notebooks/run.py --store --check

experiments: .venv/course  ## train what the chapters quote into notebooks/experiments.json
	$(BIN)/python notebooks/experiments.py

set-repo: .venv/course  ## make set-repo OWNER=name: the repository's address in badges and first cells
	$(if $(OWNER),,$(error say whose it is: make set-repo OWNER=name))
	$(BIN)/python notebooks/refresh.py $(OWNER)

clean:
	rm -rf build .venv

# The stamps are newer than what they were made from, so a second call installs nothing.
.venv/course: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

.venv/tests: .venv/course pyproject.toml
	$(BIN)/python -m pip install --quiet --group test
	touch $@
