# make demo   sets up everything and runs the main job on the local service
# make test   sets up everything and runs every check
# make docs   sets up everything and builds the documentation into build/docs
# make campaign  sets up everything and plays 2,000 schedules of faults and kills; SEED=17 or
#                SEED=0-99 plays these
# make coverage  sets up everything and measures which lines and branches the tests reach
# make mutation  sets up everything and breaks the package in some 2,700 ways (a few hours)
# make release   sets up everything, builds wheel, sdist and SBOM into build/dist, and tries the wheel
# make bench  sets up everything and prints what the package costs beside raw boto3

PYTHON ?= python3
BIN := .venv/bin
DEMO := demo-output
APT_INSTALL := DEBIAN_FRONTEND=noninteractive timeout 600 apt-get install --yes --no-install-recommends
# File by file, in their order: the one that takes longest, the campaign, is not to come last.
PYTEST := $(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder
SOURCES := pyproject.toml README.md $(shell find comprehend_phi -type f -not -name '*.pyc')

.PHONY: demo test bench campaign coverage mutation release docs format chromium clean

demo: .venv/package
	# One of the notes is too large: not all files are processed, and that is exit code 3.
	$(BIN)/comprehend-phi detect --local examples/notes $(DEMO)/results \
	  --redact $(DEMO)/redacted --review $(DEMO)/review.html || test $$? -eq 3

test: .venv/package .venv/tools chromium
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	# With --verifytypes, pyright goes by the first python on the PATH alone.
	PATH="$(CURDIR)/$(BIN):$$PATH" pyright --ignoreexternal --verifytypes comprehend_phi
	$(PYTEST)

SEED := 0-1999
campaign: .venv/package
	cd tests && ../$(BIN)/python -m campaign --seeds $(SEED)

bench: .venv/package
	$(BIN)/python -m pip install --quiet --group bench
	$(BIN)/python benchmarks/import_time.py
	$(BIN)/python benchmarks/call_cost.py
	$(BIN)/python benchmarks/results_decode.py
	$(BIN)/python benchmarks/results_fetch.py
	$(BIN)/python benchmarks/redaction_speed.py
	$(BIN)/python benchmarks/async_calls.py

# What these are there for is not measured: the command line, the local service, and documents.
ELSEWHERE := campaign cli demo detector documentation review_page server service testing_api
coverage: .venv/package .venv/tools
	$(PYTEST) --cov $(ELSEWHERE:%=--ignore=tests/test_%.py)

mutation: .venv/package .venv/tools
	$(BIN)/python -m pip install --quiet --group mutation
	$(BIN)/python tests/mutation.py $(ROOM)

release: .venv/pip
	$(BIN)/python -m pip install --quiet --group release
	rm -rf build/dist build/alone
	$(BIN)/python -m build --outdir build/dist
	$(BIN)/twine check --strict build/dist/*
	$(BIN)/check-wheel-contents build/dist/*.whl
	$(BIN)/nox --session wheel -- build/dist/*.whl
	$(PYTHON) -m venv --without-pip build/alone
	$(BIN)/python -m pip --quiet --python build/alone/bin/python install build/dist/*.whl
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --mc-type library \
	  --output-reproducible --output-file build/dist/sbom.cdx.json build/alone/bin/python

docs: .venv/package
	$(BIN)/python -m pip install --quiet --group docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going docs build/docs

format: .venv/tools
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.venv/pip:
	$(PYTHON) -m venv .venv
	# `pip install --group` came with pip 25.1.
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	touch $@

# Not editable: what the tests see is what users get.
.venv/package: .venv/pip $(SOURCES)
	$(BIN)/python -m pip install --quiet '.[cli,testing]'
	$(BIN)/python -m pip install --quiet --no-deps --force-reinstall .
	touch $@

.venv/tools: .venv/pip pyproject.toml
	$(BIN)/python -m pip install --quiet --group dev
	# Apart from the rest: each AWS CLI wants one botocore and no other.
	$(PYTHON) -m venv --without-pip .venv/aws
	$(BIN)/python -m pip --quiet --python .venv/aws/bin/python install awscli
	ln -sf ../aws/bin/aws $(BIN)/aws
	touch $@

# The tests of the review page look at it in a browser. Where it cannot be installed, they say so.
chromium:
	@if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then :; \
	elif ! command -v apt-get >/dev/null; then \
	  echo "No Chromium, and no apt-get to install it: the tests of the review page will skip."; \
	elif [ "$$(id -u)" != 0 ]; then \
	  echo "The tests of the review page need: sudo apt-get install chromium chromium-driver"; \
	else \
	  echo "Installing Chromium for the tests of the review page"; \
	  $(APT_INSTALL) chromium chromium-driver >/dev/null 2>&1 \
	    || { apt-get update -qq && $(APT_INSTALL) chromium chromium-driver >/dev/null; } \
	    || echo "Chromium could not be installed: the tests of the review page will skip."; \
	fi

clean:
	rm -rf .venv .nox build demo-output
