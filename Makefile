# `make` lists the commands. README shows how to do without make.

PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help

.PHONY: run test lab run-all pages data handout help lint format
.PHONY: notebooks set-repo experiments reproduce environments bench constraints links browser clean

# ---- for readers

run: data  ## set up, get the data, run chapters 01 to 04 in full, render the pages
	$(BIN)/python -m tools.run $(ARGS)

test: lint  ## set up, lint, run the unit tests and all notebooks in quick mode
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder \
	    --durations=5

lab: .venv/course  ## open chapter 01 in JupyterLab
	$(BIN)/python -m jupyterlab notebooks/01_data.ipynb --ServerApp.root_dir=.

run-all: data  ## as run, with all chapters, the exercises, their solutions
	$(BIN)/python -m tools.run --all $(ARGS)

pages: .venv/course  ## render the stored notebooks into build/pages; runs nothing
	$(BIN)/python -m tools.pages

data: .venv/course  ## get Fashion-MNIST; as root on Debian or Ubuntu, with apt-get
	@test -n "$$FASHION_MNIST_DIR" || $(BIN)/python -c "import course.data as d; \
	    exit(3 * (not d.quick_mode() and d.find_files()[0] != 'full'))" >/dev/null || { \
	    test $$? = 3 || exit 1; \
	    test "$$(id -u)" != 0 || ! command -v apt-get >/dev/null || { \
	    echo "Installing dataset-fashion-mnist with apt-get."; apt-get -qq update; \
	    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
	    dataset-fashion-mnist >/dev/null || true; }; }

handout:  ## build/handout.zip for students: without solutions, marking guide and tests
	mkdir -p build
	git archive --format=zip --prefix=vae-vs-autoencoder/ --output=build/handout.zip \
	    HEAD -- . ':(exclude)docs/solutions.ipynb' ':(exclude)docs/marking.md' \
	    ':(exclude)tests'

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/\1@\2/p' $(MAKEFILE_LIST) | \
	    awk -F@ '{ printf "make %-13s %s\n", $$1, $$2 }'

# ---- for maintainers: see CONTRIBUTING.md

lint: .venv/tests  ## check style, and which module imports which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

format: .venv/tests  ## put code into the course's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

notebooks: .venv/tests data  ## renew stored outputs, reference models, pictures
	$(BIN)/python -m tools.run --store

# The brackets keep this line from changing itself.
NAME ?= vae-vs-autoencoder
set-repo:  ## write the address of a copy: make set-repo OWNER=account [NAME=repository]
	@test -n "$(OWNER)" || { echo "Use: make set-repo OWNER=account"; exit 1; }
	git grep -lIi -e '-[o]wner-' | \
	    xargs perl -pi -e 's#-[o]wner-(\.github\.io)?/vae-vs-autoencoder#$(OWNER)$$1/$(NAME)#gi'

experiments: data  ## train what the chapters quote, into course/assets/experiments.json
	$(BIN)/python -m tools.experiments

reproduce: data  ## train one run of experiments.json again, and compare
	$(BIN)/python -m tools.experiments --reproduce

environments: .venv/nox  ## test with Colab's, the lowest and the newest versions, and JAX
	$(BIN)/nox $(ARGS)

bench: .venv/nox  ## time fit beside Keras, PyTorch and JAX, on an idle machine
	$(BIN)/nox -s bench -- $(ARGS)

constraints:  ## write constraints.txt: the versions that a new environment gets today
	$(PYTHON) -m venv --clear build/fresh
	build/fresh/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	build/fresh/bin/python -m pip install --quiet -r requirements.txt \
	    --group pages --group test --group browser
	(echo "# What the course was last tested with, on Linux with Python 3.11; made by 'make constraints'."; \
	    build/fresh/bin/python -m pip freeze) > constraints.txt

links: .venv/course  ## ask whether the addresses that the course names still answer
	$(BIN)/python -m sphinx -q -b linkcheck -c docs -D root_doc=README \
	    -D exclude_patterns=build,.venv,.nox -D linkcheck_ignore='(?i).*-[o]wner-.*' . build/links

browser: .venv/browser  ## test map, JupyterLab and pages in Chromium or Chrome
	$(BIN)/python -m pytest -q -rs -m browser $(ARGS) tests

clean:  ## remove build/, .nox/ and .venv/
	rm -rf build .nox .venv

# The stamps are newer than what they were made from: a second call installs nothing.
.venv/course: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet -r requirements.txt --group pages || \
	    { echo "If pip found no TensorFlow: see README, If something fails."; exit 1; }
	touch $@

.venv/tests: .venv/course
	$(BIN)/python -m pip install --quiet --group test
	touch $@

.venv/browser: .venv/tests
	$(BIN)/python -m pip install --quiet --group browser
	touch $@

.venv/nox: .venv/tests
	$(BIN)/python -m pip install --quiet "nox>=2025.2.9" uv
	touch $@
