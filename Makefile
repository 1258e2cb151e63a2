PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DOCUMENTED := $(VENV)/.documented
OLDEST := .venv-oldest
OLDEST_PYTHON ?= python3.11

.PHONY: demo test test-oldest lint examples docs bench clean

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[plot,test,lint]'
	touch $(INSTALLED)

demo: $(INSTALLED)
	$(BIN)/python examples/digits.py --output demo.png

# A process for each core, up to four, with one thread each: the tests' tensors are too small to share.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

# The tests with the oldest versions that pyproject.toml allows. Not in .ci/run: torch 2.8.0 brings several GB with it. The recipes
# are left out, as they show callbacks, which scikit-learn has from 1.9 on.
$(OLDEST)/.installed: pyproject.toml constraints-oldest.txt
	$(OLDEST_PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --constraint constraints-oldest.txt --editable '.[plot,test]'
	touch $@

test-oldest: $(OLDEST)/.installed
	$(OLDEST)/bin/python -m pytest --ignore=docs/guide/recipes.rst

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

examples: $(INSTALLED)
	for example in examples/plot_*.py; do MPLBACKEND=agg $(BIN)/python $$example || exit 1; done

$(DOCUMENTED): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $(DOCUMENTED)

# The manual, with the API reference and the gallery: every example is run. A warning is an error. Needs no network once installed.
docs: $(DOCUMENTED)
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

# The short form: one seed of the 25 Gaussians, in a folder of its own, and the speed. benchmarks/README.md has the whole.
bench: $(INSTALLED)
	BENCH_RESULTS=build/bench $(BIN)/python benchmarks/gaussians25.py --seeds 0 --models CoupledVAE VAE
	$(BIN)/python benchmarks/speed.py

clean:
	rm -rf $(VENV) $(OLDEST) .mypy_cache .ruff_cache .pytest_cache docs/_build docs/generated docs/auto_examples
