# `make help` lists the commands. README shows how to do without make.

PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := run

.PHONY: run test lab run-all pages data handout help
.PHONY: notebooks set-repo experiments reproduce bench constraints browser test-slow
.PHONY: test-colab test-lowest test-newest test-jax test-exchange clean

# ---- for readers

run: data  ## set up, get the data, run chapters 01 to 04 in full, render the pages
	$(BIN)/python -m tools.run $(ARGS)

test: .venv/tests  ## set up, lint, run the unit tests and all notebooks in quick mode
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder \
	    --durations=5

lab: .venv/course  ## open the notebooks in JupyterLab
	$(BIN)/python -m jupyterlab notebooks

run-all: data  ## as run, with chapters 05 and 06, the exercises, their solutions
	$(BIN)/python -m tools.run --all $(ARGS)

pages: .venv/course  ## render the stored notebooks into build/pages; runs nothing
	$(BIN)/python -m tools.pages

data: .venv/course  ## get Fashion-MNIST; as root on Debian or Ubuntu, with apt-get
	$(BIN)/python -m tools.fetch

handout:  ## build/handout.zip for students: without solutions, marking guide and tests
	mkdir -p build
	git archive --format=zip --prefix=vae-vs-autoencoder/ --output=build/handout.zip \
	    HEAD -- . ':(exclude)docs/solutions.ipynb' ':(exclude)docs/marking.md' \
	    ':(exclude)tests'

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/\1@\2/p' $(MAKEFILE_LIST) | \
	    awk -F@ '{ printf "make %-13s %s\n", $$1, $$2 }'

# ---- for maintainers: see CONTRIBUTING.md

notebooks: .venv/tests data  ## renew stored outputs, reference models, README's picture
	$(BIN)/python -m tools.run --all --store --check

set-repo:  ## write the address of the Git remote "origin" wherever the course needs it
	@$(PYTHON) -m tools.check_python
	@$(PYTHON) -m tools.address

experiments: data  ## train what the chapters quote, into course/assets/experiments.json
	$(BIN)/python -m tools.experiments

reproduce: data  ## train one run of experiments.json again, another each week; compare
	$(BIN)/python -m tools.experiments --reproduce

bench: .venv/course  ## time fit beside Keras, PyTorch and JAX, on an idle machine
	test -x build/peers/bin/python || $(PYTHON) -m venv build/peers
	-build/peers/bin/python -m pip install --quiet jax optax
	-build/peers/bin/python -m pip install --quiet numpy torch==2.13.0 \
	    --extra-index-url https://download.pytorch.org/whl/cpu
	$(BIN)/python -m tools.bench $(ARGS)
	$(BIN)/python -m tools.bench --startup $(ARGS)
	$(BIN)/python -m tools.bench --growth $(ARGS)

constraints:  ## write constraints.txt: the versions that a new environment gets today
	@$(PYTHON) -m tools.check_python
	$(PYTHON) -m venv --clear build/fresh
	build/fresh/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	build/fresh/bin/python -m pip install --quiet -r requirements.txt \
	    --group pages --group test --group browser
	(echo "# What the course was last tested with, on Linux with Python 3.11; made by 'make constraints'."; \
	    build/fresh/bin/python -m pip freeze) > constraints.txt

browser: .venv/browser  ## test explorer, JupyterLab and pages in Chromium or Chrome
	$(BIN)/python -m pytest -q -rs tests/test_browser.py

test-slow: .venv/browser  ## the long tests that `make test` leaves out, and browser's
	XLA_FLAGS= $(BIN)/python -m pytest -q -rs --durations=5 -m "slow or browser" \
	    $(ARGS) tests

# Environments with other versions: Colab's, the lowest and the newest that requirements.txt
# admits, and Keras on JAX. In each, what can run there runs. Colab's and the newest are made
# with Python 3.13, if there is one.
test-colab: build/environments/colab/ready  ## test with Colab's versions
test-lowest: build/environments/lowest/ready  ## test with the lowest versions admitted
test-newest: build/environments/newest/ready  ## test with the newest versions admitted
test-colab test-lowest test-newest: test-%:
	build/environments/$*/bin/python -m tools.environments $*

test-jax: build/environments/jax/ready  ## test models and losses on Keras' JAX backend
	KERAS_BACKEND=jax JAX_ENABLE_X64=1 \
	    build/environments/jax/bin/python -m tools.environments jax

# Where nothing is newer than what .venv holds, it can stand for the newest: NEWEST=.venv
NEWEST ?= build/environments/newest
WITH_TENSORFLOW = build/environments/colab build/environments/lowest $(NEWEST)
SAVED = $(addprefix build/exchange/,$(notdir $(WITH_TENSORFLOW)))
READY = $(patsubst %,%/ready,$(filter build/%,$(WITH_TENSORFLOW)))

test-exchange: $(READY) build/environments/jax/ready .venv/course  ## load the models that each saves in all others
	set -e; for environment in $(WITH_TENSORFLOW); do \
	    $$environment/bin/python -m tools.environments --save build/exchange/$${environment##*/}; done
	set -e; for environment in $(WITH_TENSORFLOW); do \
	    $$environment/bin/python -m tools.environments --load $(SAVED); done
	KERAS_BACKEND=jax \
	    build/environments/jax/bin/python -m tools.environments --load $(SAVED)

clean:  ## remove build/ and .venv/
	rm -rf build .venv

# The stamps are newer than what they were made from: a second call installs nothing.
.venv/course: requirements.txt pyproject.toml
	@$(PYTHON) -m tools.check_python
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

build/environments/%/ready: requirements.txt tools/environments.py
	@$(PYTHON) -m tools.check_python
	"$$($(PYTHON) -m tools.environments --python $*)" -m venv --clear build/environments/$*
	build/environments/$*/bin/python -m pip install --quiet --no-compile \
	    $$($(PYTHON) -m tools.environments --packages $*)
	touch $@
