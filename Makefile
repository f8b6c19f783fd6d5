# Short names for common tasks. The tasks themselves are nox sessions: see noxfile.py.

PYTHON ?= python3
BIN := .venv/bin
NOX := $(BIN)/nox --session
DEMO := demo-output
SOURCES := pyproject.toml README.md $(shell find comprehend_phi -type f -not -name '*.pyc')

.DEFAULT_GOAL := help
.PHONY: help demo test format docs browser airflow airflow-demo campaign coverage mutation bench release clean

help:  ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/package  ## Run the main job on the local service, on ten example notes
	# One note is too large, so the job ends as a partial success: exit code 3.
	$(BIN)/comprehend-phi detect --local examples/notes $(DEMO)/results \
	  --redact $(DEMO)/redacted --review $(DEMO)/review.html || test $$? -eq 3

test: $(BIN)/nox  ## Run every check: style, configuration files, types and tests
	$(NOX) check

format: $(BIN)/nox  ## Format the code and fix what ruff can fix
	$(NOX) format

docs: $(BIN)/nox  ## Build the documentation into build/docs
	$(NOX) docs

browser: $(BIN)/nox  ## Install Chromium for the review page's tests (Debian and Ubuntu)
	$(NOX) browser

airflow: $(BIN)/nox  ## Install Airflow apart from the rest, and test the operators with it
	$(NOX) airflow

airflow-demo: $(BIN)/nox  ## Run the example DAGs on a local Airflow and the local service
	$(NOX) airflow --install-only
	.nox/airflow/bin/python tools/airflow_demo.py

campaign: $(BIN)/nox  ## Run 2,000 schedules of faults and kills; SEED=17 or SEED=0-99 picks some
	$(NOX) campaign $(if $(SEED),-- --seeds $(SEED))

coverage: $(BIN)/nox  ## Measure which lines and branches the tests reach
	$(NOX) coverage

mutation: $(BIN)/nox  ## Break the package in some 15,000 ways (hours); MODULE=_retry tries one module
	$(NOX) mutation $(if $(MODULE),-- $(MODULE))

bench: $(BIN)/nox  ## Compare the package's cost with raw boto3's
	$(NOX) bench

release: $(BIN)/nox  ## Build and check the wheel, the sdist and the SBOM in build/dist
	$(NOX) release

clean:  ## Delete everything that these commands created
	rm -rf .venv .nox build $(DEMO)

$(BIN)/python:
	$(PYTHON) -m venv .venv

$(BIN)/nox: $(BIN)/python
	$(BIN)/python -m pip install --quiet nox

# Not an editable install: the demo runs what users get.
.venv/package: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet '.[cli,testing]'
	touch $@
