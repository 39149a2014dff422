# make run, make test: see README.md. Windows and macOS without make: README gives the plain lines.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: run run-all pages test browser lab notebooks experiments bench handout set-repo clean constraints
.PHONY: test-slow again test-colab test-lowest test-newest test-jax test-travel

run: .venv/course  ## set up, find the data, run chapters 01 to 04 in full into build/
	$(BIN)/python notebooks/run.py $(ARGS)

run-all: .venv/course  ## the same with chapter 05 and the exercises: about fifteen minutes more
	$(BIN)/python notebooks/run.py --all $(ARGS)

pages: .venv/course  ## the stored notebooks as pages into build/pages/; runs nothing
	$(BIN)/python notebooks/pages.py

test: .venv/tests  ## set up, lint, unit tests, notebooks in quick mode
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --durations=5

browser: .venv/browser  ## the explorer, a chapter in JupyterLab and the pages in the system's Chromium or Chrome
	$(BIN)/python -m pytest -q -rs tests/test_browser.py

test-slow: .venv/browser  ## what takes too long for `make test`, and what needs a browser
	$(BIN)/python -m pytest -q -rs --durations=5 -m "slow or browser" $(ARGS) tests

again: .venv/course  ## train one of the runs in experiments.json anew, another each week: it must come out as committed
	$(BIN)/python notebooks/experiments.py --again

# Other versions than those of `make test`: Colab's, the lowest and the newest that requirements.txt admits, and Keras
# on JAX. In each, what can run there runs; test-travel saves models with each and loads them with every other.
test-colab test-lowest test-newest: test-%: build/lanes/%/ready
	build/lanes/$*/bin/python tests/lane.py $*

test-jax: build/lanes/jax/ready
	KERAS_BACKEND=jax JAX_ENABLE_X64=1 build/lanes/jax/bin/python tests/lane.py jax

# Where nothing is newer than what .venv holds, that can stand for the newest: NEWEST=.venv
NEWEST ?= build/lanes/newest
LANES = build/lanes/colab build/lanes/lowest $(NEWEST)
SAVED = $(addprefix build/travel/,$(notdir $(LANES)))
test-travel: $(patsubst %,%/ready,$(filter build/%,$(LANES))) build/lanes/jax/ready .venv/course
	set -e; for lane in $(LANES); do $$lane/bin/python tests/lane.py --save build/travel/$${lane##*/}; done
	set -e; for lane in $(LANES); do $$lane/bin/python tests/lane.py --load $(SAVED); done
	KERAS_BACKEND=jax build/lanes/jax/bin/python tests/lane.py --load $(SAVED)

constraints:  ## constraints.txt: the versions that a fresh environment gets today; run .ci/run with them, then commit
	$(PYTHON) -m venv --clear build/fresh
	build/fresh/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	build/fresh/bin/python -m pip install --quiet -r requirements.txt --group pages --group test --group browser
	(echo "# What the course was last tested with, on Linux with Python 3.11; made by 'make constraints'."; build/fresh/bin/python -m pip freeze) > constraints.txt

lab: .venv/course  ## JupyterLab on the notebooks
	$(BIN)/python -m jupyterlab notebooks

notebooks: .venv/tests  ## refresh stored outputs, reference models and README's picture from a full run
	$(BIN)/python notebooks/run.py --all --store --check

experiments: .venv/course  ## train what the chapters quote into notebooks/experiments.json
	$(BIN)/python notebooks/experiments.py

bench: .venv/course  ## time fit beside Keras, PyTorch, JAX and the matrix products alone; on an idle machine
	test -x build/peers/bin/python || $(PYTHON) -m venv build/peers
	-build/peers/bin/python -m pip install --quiet jax optax
	-build/peers/bin/python -m pip install --quiet numpy torch==2.13.0 --extra-index-url https://download.pytorch.org/whl/cpu
	$(BIN)/python tests/bench_fit.py $(ARGS)
	$(BIN)/python tests/bench_fit.py --startup $(ARGS)
	$(BIN)/python tests/bench_fit.py --growth $(ARGS)

handout:  ## build/handout.zip: what is committed, without solutions, marking guide and tests, for students
	mkdir -p build
	git archive --format=zip --prefix=vae-vs-autoencoder/ --output=build/handout.zip HEAD -- . \
	    ':(exclude)notebooks/solutions.ipynb' ':(exclude)notebooks/MARKING.md' ':(exclude)tests'

set-repo: .venv/course  ## make set-repo OWNER=name: the repository's address in badges and first cells
	$(if $(OWNER),,$(error say whose it is: make set-repo OWNER=name))
	$(BIN)/python notebooks/refresh.py $(OWNER)

clean:
	rm -rf build .venv

# The stamps are newer than what they were made from, so a second call installs nothing.
.venv/course: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet -r requirements.txt --group pages
	touch $@

.venv/tests: .venv/course
	$(BIN)/python -m pip install --quiet --group test
	touch $@

.venv/browser: .venv/tests
	$(BIN)/python -m pip install --quiet --group browser
	touch $@

build/lanes/%/ready: requirements.txt tests/lane.py
	$(PYTHON) -m venv --clear build/lanes/$*
	build/lanes/$*/bin/python -m pip install --quiet --no-compile $$($(PYTHON) tests/lane.py --packages $*)
	touch $@
