# make setup   create .venv and install all packages   make demo   run all scripts on real photos
# make test    run the tests                           make lint   run ruff and codespell
# make soak    run the slow tests: kills, races and big sizes
# make bench   measure this project against a plain port of the tutorials; takes hours
.PHONY: setup demo test soak lint bench

BIN := .venv/bin

setup: .venv/ready

IS_SUPPORTED := 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'

# Install into the existing .venv. If there is none, create it with the first Python on the PATH
# that TensorFlow supports.
.venv/ready: requirements.txt requirements-extras.txt requirements-dev.txt
	@if [ -n "$(PYTHON)" ] || ! $(BIN)/python -c $(IS_SUPPORTED) 2>/dev/null; then \
	  for python in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	    if $$python -c $(IS_SUPPORTED) 2>/dev/null; then found=$$python; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "[ERROR] Python 3.11, 3.12 or 3.13 not found. Install one, or give its path: make setup PYTHON=/path/to/python3.13"; \
	    exit 2; \
	  fi; \
	  $$found -m venv --clear .venv || exit 2; \
	fi; \
	echo "[INFO] installing packages into .venv for $$($(BIN)/python --version), about a minute"; \
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null; \
	$(BIN)/python -m pip install \
	  --quiet --disable-pip-version-check --requirement requirements-dev.txt
	@touch $@

demo: setup
	@$(BIN)/python tools/demo.py

test: setup
	@$(BIN)/python tools/get_weights.py
	@$(BIN)/python -m pytest

soak: setup
	@$(BIN)/python tools/get_weights.py
	@$(BIN)/python -m pytest -m soak

lint: setup
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/codespell

bench: setup
	@$(BIN)/python tools/get_weights.py
	@$(BIN)/python tools/get_sample.py
	@$(BIN)/python build_dataset.py --recipe sample
	@$(BIN)/python benchmarks/race.py
