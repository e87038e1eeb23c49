# Two commands on a fresh machine: make compare, make test. Everything else is optional.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
LESSONS := .venv/.lessons
DOCS := .venv/.docs
BROWSER := .venv/.browser

.PHONY: compare test docs docs-browser figures test-slow lessons exercises wheel study parity benchmark mutate check format schema dictionary clean

compare: $(INSTALLED)
	$(BIN)/python compare.py

# Two at once, file by file: most tests wait for a process that starts a framework.
test: check
	$(BIN)/python -m pytest -n 2 --dist loadfile

# Every exercise: with its fault it fails at the rung that it promises, mended it passes (a quarter of an hour).
exercises: $(INSTALLED)
	$(BIN)/python -m pytest -n0 -m slow tests/test_exercise_judge.py

# Executes the ten lessons and writes them with their outputs to build/lessons (three minutes on two cores); a cell that
# fails ends it. ONLY="1 5" executes some.
lessons: $(LESSONS)
	$(BIN)/python docs/execute_lessons.py $(ONLY)

# The suites that take minutes, and those that fetch real weights and photographs.
test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m "slow or network"

# The site, from README, documents and source (a quarter of a minute of one core): build/site/index.html, which needs no
# network. A warning is an error. It shows the lessons as `make lessons` executed them, if it did.
docs: $(DOCS)
	$(BIN)/python -m docs.site

# The site in headless Chromium at the width of a phone and of a desktop: axe, search, what is loaded. CHROMIUM=PATH
# chooses one, otherwise it is fetched.
docs-browser: $(DOCS) $(BROWSER)
	$(if $(CHROMIUM),,$(BIN)/playwright install chromium)
	$(BIN)/python -m pytest -n0 -m slow tests/test_site_in_a_browser.py

# docs/figures, anew.
figures: $(INSTALLED)
	$(BIN)/python -m docs.site figures

# What gets installed: builds the wheel, then tries it in fresh environments, with both frameworks and with each alone.
wheel: $(INSTALLED)
	rm -rf build/lib build/bdist.* dist
	$(BIN)/python -m build --wheel --no-isolation
	WHEEL="$$(ls dist/*.whl)" $(BIN)/python -m pytest -m slow tests/test_package.py

# What transfer buys with few labels, and whether it depends on the framework (50 minutes on two cores). Goes on where it
# was interrupted.
study: $(INSTALLED)
	$(BIN)/python compare.py study study

# The whole ladder: all pairs under both semantics in float64 (an hour or more on two cores). Its table is docs/parity.md.
# Then what recipes run: all heads and strategies on two families.
parity: $(INSTALLED)
	$(BIN)/python compare.py parity --backbone all --precision float64 --output-dir results/parity
	$(BIN)/python compare.py parity --heads all --strategies all --backbone MobileNetV3Small ResNet50 --output-dir results/parity-recipes

# Ours against the loops that a user would otherwise write (an hour or two on two quiet cores): docs/benchmarks.md.
# DATA=folder chooses real photographs.
benchmark: $(INSTALLED)
	$(BIN)/python benchmarks/run.py $(if $(DATA),--data $(DATA))

# Plants mistakes in copies of the project, one at a time, and writes who notices them (an hour on two cores; goes on where
# it was interrupted): docs/validity.md. ONLY=id,id plants some.
mutate: $(INSTALLED)
	$(BIN)/python -m tests.mutations $(ONLY)

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The link shows the checkout to the type checker under the package's own name.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	ln -sfn "$(CURDIR)" .venv/transfer_parity
	touch $@

# What one of the extras of pyproject.toml adds, by its name.
.venv/.%: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[$*]"
	touch $@

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

# The documented forms of comparison.json, and of parity.json of a pair of one's own, from their models.
schema: $(INSTALLED)
	$(BIN)/python -c "from transfer_parity.shared.subjects.document import schema; print(schema(), end='')" > docs/own-pair.schema.json
	$(BIN)/python -c "from transfer_parity.shared.experiments.comparison_document import schema; print(schema(), end='')" > docs/comparison.schema.json

# The dictionary in both languages, from shared/contract/dictionary/.
MAKE_DICTIONARY := import sys, pathlib; from transfer_parity.shared.report.dictionary import markdown; \
	print(markdown(sys.argv[1], pathlib.Path("docs/differences.md").read_text("utf-8")), end="")
dictionary: $(INSTALLED)
	$(BIN)/python -c '$(MAKE_DICTIONARY)' en > docs/dictionary.md
	$(BIN)/python -c '$(MAKE_DICTIONARY)' zh > docs/zh/dictionary.md
