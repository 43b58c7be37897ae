# make campaign   set up everything on this machine and run the example campaign
# make test       set up everything, run all checks, and all tests but those of make test-all
# make test-all   the same, the documentation, and the tests that need clusters, services and a browser
# make help       the other targets

PYTHON ?= python3

# What pip is asked for as torch, options included. Installed before everything else, so that nothing else chooses the build:
# pip takes the one that the package index offers first, which may bring several GB of GPU libraries along. To choose:
#   make campaign TORCH='torch==2.13.0+cpu --index-url URL-OF-AN-INDEX-WITH-CPU-BUILDS'
TORCH ?= torch==2.13.0

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# The steps share one environment and one profile: -j has nothing to run at the same time.
.NOTPARALLEL:
.DELETE_ON_ERROR:

# Neither make nor AiiDA's daemon can be trusted with a path that has spaces.
ifneq ($(words $(CURDIR)),1)
$(error The path "$(CURDIR)" has spaces in it; move the clone to a path without any)
endif

VENV := .venv
# An AiiDA profile of the project's own. It never uses the profile of the user.
export AIIDA_PATH := $(CURDIR)/.aiida
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# Without PYTHONDONTWRITEBYTECODE: each of many short processes would else compile the package anew.
unexport PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE VIRTUAL_ENV AIIDA_PROFILE MAKEFLAGS MAKELEVEL MFLAGS
PIP := $(CURDIR)/$(VENV)/bin/python -m pip --disable-pip-version-check --no-input

.PHONY: help campaign setup test test-all test-rest soak lint docs screenshots wheel system-packages system-packages-for-tests models labels stop clean distclean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 20

campaign: setup ## set up, run examples/submit_campaign.py and wait for its ranking
	verdi -p dosmatgen run examples/submit_campaign.py

setup: $(VENV)/.installed system-packages ## environment, Quantum ESPRESSO, AiiDA profile, codes, models, daemon
	@echo "Setting up AiiDA in $(AIIDA_PATH):"
	@mkdir -p $(AIIDA_PATH)
	@aiida-dosmatgen setup localhost

# Some tests compute and some wait, so that there is one process more than the usual two cores. Each has a profile, ports and a cluster of its own.
PROCESSES ?= 3
PYTEST := python -m pytest --durations 30
REST := cluster or services or browser or tutorial or slow

# $(call beside,TARGETS,COMMAND): make those targets beside the command, and show what they print after it.
define beside
	@mkdir -p build
	@$(MAKE) --no-print-directory $(1) > build/checks.log 2>&1 & checks=$$!; \
	$(2) && tests=0 || tests=$$?; \
	wait $$checks && passed=0 || passed=$$?; cat build/checks.log; exit $$((tests + passed))
endef

test: $(VENV)/.installed-tests system-packages ## lint, and the tests, with real pw.x and a real daemon (less than 10 minutes)
	$(call beside,lint,$(PYTEST) -n $(PROCESSES) -m 'not ($(REST))')

test-all: test test-rest ## make test, then the documentation, and the tests on Slurm, PostgreSQL and RabbitMQ, in a browser, of all tutorials, and slow ones

# Much of it waits for jobs: with five processes both of the usual two cores are busy all the time.
test-rest: $(VENV)/.installed-docs system-packages-for-tests ## what make test leaves out of make test-all
	$(call beside,docs,$(PYTEST) -n 5 -m '$(REST)')

MINUTES ?= 10
# --services: on PostgreSQL and RabbitMQ, which are killed, too
SOAK ?=
soak: $(VENV)/.installed-tests system-packages-for-tests ## repeat a small campaign under random faults for MINUTES
	OMP_NUM_THREADS=1 python -m tests.soak --minutes $(MINUTES) $(SOAK)

lint: $(VENV)/.installed-tests ## style, import contracts, types
	ruff check .
	ruff format --check .
	lint-imports
	mypy

docs: $(VENV)/.installed-docs ## the documentation, in docs/_build/html
	@rm -rf docs/reference/api  # pages of modules that are gone
	sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

screenshots: $(VENV)/.installed-docs ## draw the pictures of the documentation again, from the newest campaign (see the first tutorial)
	python docs/make_terminal_pictures.py
	@mkdir -p build
	aiida-dosmatgen report -o build/campaign.html
	python docs/make_screenshots.py build/campaign.html

wheel: $(VENV)/.installed-tests ## build dist/*.whl and dist/*.tar.gz, and try them in fresh environments of every Python from 3.10 to 3.13 that is here
	TORCH='$(TORCH)' scripts/try-wheel

system-packages:
	@scripts/install-system-packages

system-packages-for-tests:
	@scripts/install-system-packages tests

# Stamps tell what is done: an interrupted installation is taken up again, a finished one only if pyproject.toml changes.
$(VENV)/.created:
	@command -v $(PYTHON) > /dev/null || { echo "aiida-dosmatgen: no $(PYTHON); install Python 3.10 or newer" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	    || { echo "aiida-dosmatgen: $$($(PYTHON) --version) is too old; make PYTHON=python3.10 or newer" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null \
	    || scripts/install-packages "python$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml
	$(PIP) install --progress-bar off --quiet $(TORCH)
	$(PIP) install --progress-bar off --quiet --editable '.[all]'
	@scripts/install-chgnet $(VENV)/bin/python
	@touch $@

$(VENV)/.installed-tests: $(VENV)/.installed
	$(PIP) install --progress-bar off --quiet --editable '.[all,tests]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed-tests
	$(PIP) install --progress-bar off --quiet --editable '.[all,tests,docs]'
	@touch $@

# Folder of job files and labels. The models that version 0.1.0 shipped are those of DATA=aiida_dosmatgen/datasets/debian-pbe.
DATA ?= datasets/pseudodojo-pbe
# further options, e.g. TRAIN='--threads 2 --max-seconds 36000'
TRAIN ?=
models: $(VENV)/.installed ## train all shipped models again, by the job files in DATA, in build/models; started again it continues (days)
	scripts/train-models --data $(DATA) --ship $(TRAIN)

DATASET := aiida_dosmatgen/datasets/debian-pbe
labels: $(VENV)/.installed system-packages ## compute the labels of the shipped data set again (hours)
	cd $(DATASET) && dosmatgen label label.json

stop: ## stop the daemon; make campaign starts it again
	@if [ -d .aiida ] && [ -x $(VENV)/bin/verdi ]; then verdi -p dosmatgen daemon stop; fi

clean: ## remove caches
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist docs/_build
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: stop clean ## remove everything that make made: the environment, and the AiiDA profile WITH ITS DATA
	rm -rf $(VENV) .aiida
