# One name for each command. Everything runs in a virtual environment inside the clone.
PYTHON ?= python3
VENV ?= .venv
# Arguments for pytest: make test PYTEST_ARGS="-k digits -x"
PYTEST_ARGS ?=
# Extras that test-extras blocks, one list of packages a run
BLOCKS ?= pyarrow narwhals matplotlib sklearn skl2onnx,onnx \
    pyarrow,narwhals,matplotlib,sklearn,skl2onnx,onnx
# Versions of scikit-learn, each with an environment: make test-sklearn-versions SKLEARN_VERSIONS="1.6"
SKLEARN_VERSIONS ?= 1.6 1.7 1.8 1.9
# The peers' environment, and arguments for the benchmark: make bench BENCH_ARGS="--quick"
BENCH_VENV ?= .venv-bench
# PyTorch's environment: it is large, and only the tests of fastgd.torch need it
TORCH_VENV ?= .venv-torch
BENCH_ARGS ?=
# Files of tests for test-asan, all by default: make test-asan TEST_FILES="test_engine test_io"
TEST_FILES ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
# Of extras, without building the package anew: $(call install_extras,data test)
install_extras = $(BIN)/python tools/requirements.py $(1) > $(VENV)/extras.txt && $(PIP) install -r $(VENV)/extras.txt
SOURCES := setup.py pyproject.toml $(wildcard src/fastgd/*.pyx src/fastgd/*.pxd csrc/*.[ch] csrc/*/*.h)

.DEFAULT_GOAL := help
.PHONY: help build demo test test-grid test-data test-extras test-sklearn-versions test-torch \
        test-notebooks test-asan test-tsan test-valgrind test-guard test-memory test-leaks \
        test-counts lint format docs bench why-page readme package-check clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 24

# The three stamps: the environment, the package built in place, the tools of each purpose.
$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(v < (3, 11) and "fastgd needs Python 3.11 or newer; %s is %d.%d. Try: make PYTHON=python3.11 ..." % (sys.executable, *v))'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.built: $(VENV)/pyvenv.cfg $(SOURCES)
	@echo "Building fastgd in $(VENV) ..."
	$(PIP) install -e .
	@$(BIN)/python -m compileall -q src/fastgd
	@touch $@

$(VENV)/.test: $(VENV)/.built
	$(call install_extras,data plot sklearn onnx examples test)
	@touch $@

$(VENV)/.dev: $(VENV)/.test
	$(call install_extras,dev)
	@touch $@

$(VENV)/.docs: $(VENV)/.built
	$(PIP) install -e '.[docs]'
	@touch $@

build: $(VENV)/.built  ## build the package in place

demo: $(VENV)/.built  ## train on bundled data, check the arithmetic, compare with NumPy
	$(BIN)/fastgd demo

test: $(VENV)/.test  ## run the test suite
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-grid: $(VENV)/.test  ## run the exhaustive tests
	$(BIN)/python -m pytest -m grid $(PYTEST_ARGS)

test-data: $(VENV)/.test  ## run the tests that need Fashion-MNIST (Debian: dataset-fashion-mnist)
	$(BIN)/python -m pytest -m data $(PYTEST_ARGS)

test-extras: $(VENV)/.test  ## run the suite with each extra, and then all, blocked from import
	for block in $(BLOCKS); do \
	    FASTGD_BLOCK=$$block $(BIN)/python -m pytest $(PYTEST_ARGS) || exit 1; \
	done

test-sklearn-versions: $(VENV)/.built  ## run the tests of fastgd.sklearn with scikit-learn 1.6 to 1.9
	$(BIN)/python tools/sklearn_versions.py $(SKLEARN_VERSIONS) -- $(PYTEST_ARGS)

$(TORCH_VENV)/.ready: $(VENV)/.built
	$(PYTHON) -m venv $(TORCH_VENV)
	@echo "Installing PyTorch in $(TORCH_VENV) ..."
	$(TORCH_VENV)/bin/python -m pip --disable-pip-version-check -q install -e '.[torch,plot,test]'
	@touch $@

test-torch: $(TORCH_VENV)/.ready  ## run the tests of fastgd.torch beside PyTorch
	$(TORCH_VENV)/bin/python -m pytest tests/test_torch_*.py $(PYTEST_ARGS)

$(VENV)/.notebooks: $(VENV)/.test
	$(call install_extras,notebooks)
	@touch $@

test-notebooks: $(VENV)/.notebooks  ## run the notebooks of examples/notebooks
	$(BIN)/python -m pytest tests/test_notebooks.py $(PYTEST_ARGS)

test-asan: $(VENV)/pyvenv.cfg  ## run the suite under AddressSanitizer and UndefinedBehaviorSanitizer
	$(BIN)/python tools/sanitizers.py $(if $(TEST_FILES),--only $(TEST_FILES)) -- $(PYTEST_ARGS)

test-tsan: $(VENV)/.test  ## look for races in the C programs of the team and of fits
	$(BIN)/python -m pytest -m 'grid or not grid' -k no_race tests/test_threads.py $(PYTEST_ARGS)

test-valgrind: $(VENV)/.built  ## run the C programs and short tests under valgrind
	$(BIN)/python tools/memcheck.py

test-guard: $(VENV)/.test  ## look for reads and writes beyond arrays, with guard pages
	$(BIN)/python -m pytest -m 'grid or not grid' tests/test_guard.py $(PYTEST_ARGS)

test-memory: $(VENV)/.test  ## let every allocation fail once
	$(BIN)/python -m pytest -m 'grid or not grid' -k no_memory tests/test_memory.py $(PYTEST_ARGS)

test-leaks: $(VENV)/.built  ## look for leaks in 100,000 fits, and other long runs
	$(BIN)/python -W ignore tests/long_runs.py

test-counts: $(VENV)/.test  ## put the number of tests of each command into docs/reliability.md
	$(BIN)/python tools/count_tests.py

lint: $(VENV)/.dev  ## check layout, style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(CURDIR)/$(BIN):$$PATH" cython-lint src/fastgd
	$(BIN)/clang-format --dry-run --Werror $(wildcard csrc/*.[ch] csrc/*/*.h)
	$(BIN)/mypy
	$(BIN)/mypy --strict tests/typing
	$(BIN)/pyright --pythonpath $(BIN)/python
	MYPYPATH=src $(BIN)/stubtest --allowlist tools/stubtest-allowlist.txt fastgd._kernels fastgd._engine
	$(BIN)/python tools/count_tests.py --check

format: $(VENV)/.dev  ## lay out Python and C
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(wildcard csrc/*.[ch] csrc/*/*.h)

docs: $(VENV)/.docs  ## build the pages, warnings as errors: docs/_build/html/index.html
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

# The peers have an environment of their own; fastgd is the one that is built in place.
$(BENCH_VENV)/.ready: benchmarks/requirements.txt
	$(PYTHON) -m venv $(BENCH_VENV)
	@echo "Installing the peers in $(BENCH_VENV) ..."
	$(BENCH_VENV)/bin/python -m pip --disable-pip-version-check -q install -r benchmarks/requirements.txt
	@touch $@

bench: $(VENV)/.built $(BENCH_VENV)/.ready  ## measure beside the peers, and write benchmarks/results/<version>-<machine>.*
	$(BENCH_VENV)/bin/python benchmarks/run.py $(BENCH_ARGS)

why-page: $(VENV)/.test  ## renew docs/why-derivatives.md from what its example finds
	$(BIN)/python tools/why_page.py

readme: $(VENV)/.docs  ## put the newest benchmark file's numbers and charts into README.md and docs
	$(BIN)/python tools/readme_numbers.py
	$(BIN)/python tools/docs_charts.py

package-check: $(VENV)/.dev  ## sdist -> wheel -> empty environment -> import, train, check
	$(BIN)/python tools/package_check.py

clean:  ## remove what was built, and the environments
	rm -rf build dist docs/_build docs/gallery $(VENV) $(BENCH_VENV) $(TORCH_VENV) .venv-sklearn-* .venv-asan .pytest_cache .ruff_cache .mypy_cache src/*.egg-info
	find src tests -name '*.so' -o -name '__pycache__' | xargs rm -rf
