# Every target sets up what it needs in .venv; a stamp per extra keeps the next run from installing anything.

BIN := .venv/bin
# `make test ARGS="-k rmse -x"`; `make test ARGS=--cov` measures coverage
ARGS :=
# How many processes run the tests; 0 for none but the first.
WORKERS := auto

.PHONY: demo test coverage test-long test-torch trainers engines lint format docs refresh bench dist clean ecosystem
.NOTPARALLEL:

# A loss on real predictions, two metrics of a folder of them by group, the question's two tables, and the question
# itself, run anew. The status is 1 where a number depends on the batch size by mistake.
demo: .venv/torch,data.stamp
	@$(BIN)/batchproof explain examples/question.py:rmse --data examples/diabetes_predictions.csv || test $$? -eq 1
	@echo
	@$(BIN)/batchproof score examples/predictions --fn examples/fit.py:rmse --fn examples/fit.py:r2 --by decade
	@echo
	@$(BIN)/batchproof simulate || test $$? -eq 1
	@echo
	@$(BIN)/batchproof compare examples/larger_batch_larger_loss.py --batch-size 16,64,128 || test $$? -eq 1

test: .venv/test.stamp
	$(BIN)/python -m pytest --numprocesses $(WORKERS) $(ARGS)

# The tests, with the floor under the coverage that pyproject.toml sets.
coverage: .venv/test.stamp
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --cov $(ARGS)

# Searches for wrong numbers, 20,000 random programs and every operator by dtype and kind of first samples among them:
# hours. `make test-long ARGS="--minutes 10"` runs as many as fit, others each day.
test-long: .venv/test.stamp
	$(BIN)/python -m pytest --numprocesses $(WORKERS) -m long $(ARGS)

# A fifth of the tests with another torch, in an environment of its own: make test-torch TORCH=2.6.0, the oldest that
# is supported. Its warnings are no errors: an older torch may warn of what a newer numpy or Python does.
TORCH := 2.6.0
test-torch: .venv/made
	test -d .venv-torch-$(TORCH) || $(BIN)/python -m venv .venv-torch-$(TORCH)
	.venv-torch-$(TORCH)/bin/python -m pip install --quiet "torch==$(TORCH)" -e ".[test]"
	.venv-torch-$(TORCH)/bin/python -m pytest --numprocesses $(WORKERS) --sample 5 -W default $(ARGS)

# The checks of whole trainers, against the trainers themselves, and of real architectures. A file's tests stay together:
# they share what takes long.
trainers: .venv/trainers.stamp
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadscope tests/trainers $(ARGS)

# Scores on a Ray cluster of several nodes, and the page's other engines, against pinned packages.
engines: .venv/engines.stamp
	$(BIN)/python -m pytest tests/engines $(ARGS)

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/docs.stamp
	$(BIN)/python -m sphinx --quiet --fail-on-warning -d docs/_build/doctrees docs docs/_build/html
	@echo "docs/_build/html/index.html"

# All that is committed and shows what batchproof prints, made again: blocks of the pages, README's picture, the gallery.
# `make refresh ARGS="docs/run.md"` for a page alone.
refresh: .venv/docs.stamp
	$(BIN)/python docs/refresh.py $(ARGS)

bench: .venv/test.stamp
	$(BIN)/python -m bench $(ARGS)

# Lint over public repositories at pinned commits: make ecosystem ARGS="--since v0.1.0" shows what has changed since.
ecosystem: .venv/test.stamp
	$(BIN)/python -m bench.ecosystem $(ARGS)

# The wheel and the source archive in dist/, each tried in a clean environment of every Python that is found.
dist: .venv/release.stamp
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*
	.ci/try-packages dist/*

clean:
	rm -rf .venv .venv-torch-* docs/_build dist

.venv/%.stamp: pyproject.toml constraints.txt | .venv/made
	@echo "Installing batchproof[$*] into .venv (once, a minute or two)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$*]'
	@touch $@

.venv/made:
	@for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11 python3.10; do \
	  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null \
	    && "$$python" -m venv --clear .venv 2>/dev/null && touch $@ && exit 0; \
	done; \
	echo "No Python >= 3.10 that can make a virtual environment was found. Name one: make PYTHON=/path/to/python3" >&2; \
	echo "(on Debian and Ubuntu the module is a package of its own: apt install python3-venv)" >&2; \
	exit 1
