# make setup   create .venv and install all packages   make demo   run all scripts on real photos
# make test    run the tests                           make lint   run ruff and codespell
# make soak    run the slow tests: kills, races and big sizes
# make bench   measure this project against a plain port of the tutorials; takes hours
# Without make, run the same files of tools/ with Python.
.PHONY: setup demo test soak lint bench

BIN := .venv/bin
# Any Python can make .venv: it finds one that TensorFlow supports. Choose one with PYTHON=...
ANY_PYTHON := $(firstword $(foreach name,$(PYTHON) python3 python3.13 python3.12 python3.11,\
  $(shell command -v $(name))) python3)
export PYTHON

setup:
	@$(ANY_PYTHON) tools/environment.py requirements-dev.txt

demo:
	@$(ANY_PYTHON) tools/demo.py

test:
	@$(ANY_PYTHON) tools/test.py

soak:
	@$(ANY_PYTHON) tools/test.py -m soak

lint: setup
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/codespell

bench: setup
	@$(BIN)/python tools/get_weights.py
	@$(BIN)/python tools/get_sample.py
	@$(BIN)/python build_dataset.py --recipe sample
	@$(BIN)/python benchmarks/race.py
