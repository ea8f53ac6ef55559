# make setup   a .venv with everything in it      make demo   the whole road, on real photos
# make test    the tests                          make lint   ruff and codespell
# make bench   the race against a plain port of the tutorials, which takes long
.PHONY: setup demo test lint bench

BIN := .venv/bin

setup: .venv/ready

SUPPORTED := 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'

# Into the .venv that is there, or a new one of the first Python on the PATH that TensorFlow supports.
.venv/ready: requirements.txt requirements-extras.txt requirements-dev.txt
	@if [ -n "$(PYTHON)" ] || ! $(BIN)/python -c $(SUPPORTED) 2>/dev/null; then \
	  for python in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	    if $$python -c $(SUPPORTED) 2>/dev/null; then found=$$python; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "[ERROR] no Python 3.11, 3.12 or 3.13 found. Install one, or name it: make setup PYTHON=/path/to/python3.13"; \
	    exit 2; \
	  fi; \
	  $$found -m venv --clear .venv || exit 2; \
	fi; \
	echo "[INFO] installing into .venv with $$($(BIN)/python --version), about a minute"; \
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null; \
	$(BIN)/python -m pip install \
	  --quiet --disable-pip-version-check --requirement requirements-dev.txt
	@touch $@

demo: setup
	@$(BIN)/python tools/demo.py

test: setup
	@$(BIN)/python tools/get_weights.py
	@$(BIN)/python -m pytest

lint: setup
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/codespell

bench: setup
	@$(BIN)/python tools/get_weights.py
	@$(BIN)/python tools/get_sample.py
	@$(BIN)/python build_dataset.py --recipe sample
	@$(BIN)/python benchmarks/race.py
