PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test lint examples bench clean

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[plot,test]'
	touch $(INSTALLED)

demo: $(INSTALLED)
	$(BIN)/python examples/digits.py --output demo.png

test: $(INSTALLED)
	$(BIN)/python -m pytest

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

examples: $(INSTALLED)
	for example in examples/plot_*.py; do MPLBACKEND=agg $(BIN)/python $$example || exit 1; done

# The short form: one seed of the 25 Gaussians, in a folder of its own, and the speed. benchmarks/README.md has the whole.
bench: $(INSTALLED)
	BENCH_RESULTS=build/bench $(BIN)/python benchmarks/gaussians25.py --seeds 0 --models CoupledVAE VAE
	$(BIN)/python benchmarks/speed.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
