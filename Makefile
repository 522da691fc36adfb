# PYTHON: an interpreter from 3.10 to 3.13 for a new .venv; without it, python3.
PYTHON ?=
PYTEST_ARGS ?=
QUICKSTART_ARGS ?=
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup quickstart test lint format lock clean

help:
	@echo 'make setup        make .venv with all that is needed (PYTHON=python3.12 picks the interpreter)'
	@echo 'make quickstart   sample set, training, evaluation and pictures (QUICKSTART_ARGS=...)'
	@echo 'make test         the whole test suite (PYTEST_ARGS="-k focal")'
	@echo 'make lint         check style; make format fixes what can be fixed'
	@echo 'make lock         renew requirements.lock from requirements.in (needs uv)'
	@echo 'make clean        remove .venv and caches'

# Always run: the script itself sees when nothing is to be done, by content and not by file times.
setup:
	@PYTHON='$(PYTHON)' bash tools/setup_env.sh

quickstart: setup
	$(BIN)/python -m retina_cli quickstart $(QUICKSTART_ARGS)

# Two processes of one thread each take half the time of one with two threads. A file stays in one process, for its
# fixtures. -rfEs: -rs alone would drop pytest's own summary of failures and errors.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -n 2 --dist loadfile --durations=10 -rfEs $(PYTEST_ARGS)

lint: setup
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

format: setup
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

# Keeps the head of the lock file, down to the line that begins with "# uv:". Why CUDA is left out stands there.
lock:
	sed '/^# uv:/q' requirements.lock > requirements.lock.new
	uv pip compile --quiet --universal --python-version 3.10 --no-header --no-annotate requirements.in \
		| grep -vE '^(nvidia|cuda|triton)' >> requirements.lock.new
	mv requirements.lock.new requirements.lock

clean:
	rm -rf .venv .pytest_cache .ruff_cache build *.egg-info
	find retina_cli retina_plugin tests -name __pycache__ -type d -prune -exec rm -rf {} +
