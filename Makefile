# One name for each command. Everything runs in a virtual environment inside the clone.
PYTHON ?= python3
VENV ?= .venv
# Arguments for pytest: make test PYTEST_ARGS="-k digits -x"
PYTEST_ARGS ?=
# Extras that test-extras blocks, one list of packages a run
BLOCKS ?= pyarrow narwhals matplotlib sklearn skl2onnx,onnx pyarrow,matplotlib,skl2onnx,onnx \
    pyarrow,narwhals,matplotlib,sklearn,skl2onnx,onnx
# Versions of scikit-learn, each with an environment: make test-sklearn-versions SKLEARN_VERSIONS="1.6"
SKLEARN_VERSIONS ?= 1.6 1.7 1.8 1.9
# Arguments for the sweep: make test-sweep SWEEP_ARGS="--quick", or names of activations
SWEEP_ARGS ?=
# The peers' environment, and arguments for the benchmark: make bench BENCH_ARGS="--quick"
BENCH_VENV ?= .venv-bench
# PyTorch's environment: it is large, and only the tests of fastgd.torch need it
TORCH_VENV ?= .venv-torch
BENCH_ARGS ?=
# Arguments for the wheels: make wheels WHEELS_ARGS="--suite python3.12"
WHEELS_ARGS ?=
# Seconds for each target, and which ones; all of them by default
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?=
# Files of tests for test-asan, test-tsan and test-coverage, all by default: make test-asan TEST_FILES="test_engine test_io"
TEST_FILES ?=

# Words, all of which are in the name of a seeded fault: make test-seeded-faults FAULTS="dropout"
FAULTS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
# Of extras, without building the package anew: $(call install_extras,data test)
install_extras = $(BIN)/python tools/requirements.py $(1) > $@.txt && $(PIP) install -r $@.txt
SOURCES := setup.py pyproject.toml $(wildcard src/fastgd/*.pyx src/fastgd/*.pxd csrc/*.[ch] csrc/*/*.h)

.DEFAULT_GOAL := help
.PHONY: help build demo test test-grid test-data test-faults test-extras test-sklearn-versions \
        test-oldest fuzz test-torch test-notebooks test-sweep test-determinism test-large test-isa \
        test-qemu test-arm64 test-cross test-asan test-tsan test-valgrind test-guard test-memory \
        test-leaks test-coverage test-seeded-faults test-counts lint format docs bench why-page \
        readme package-check wheels clean

help:  ## list the commands
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 24

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

$(VENV)/.wheels: $(VENV)/.built
	$(call install_extras,wheels)
	@touch $@

$(VENV)/.docs: $(VENV)/.built
	$(call install_extras,docs)
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

test-faults: $(VENV)/.test  ## kill, interrupt and fork hundreds of times, some 20 minutes (as root it also mounts a full disk)
	$(BIN)/python -m pytest -m faults -rP tests/test_faults_*.py $(PYTEST_ARGS)

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

test-oldest: $(VENV)/pyvenv.cfg  ## run the suite with the oldest versions that pyproject.toml allows
	$(BIN)/python tools/oldest.py -- $(PYTEST_ARGS)

$(VENV)/.fuzz: $(VENV)/.test
	$(call install_extras,fuzz)
	@touch $@

fuzz: $(VENV)/.fuzz  ## fuzz readers, arguments, sequences and C core: FUZZ_SECONDS each of FUZZ_TARGETS
	$(BIN)/python tools/fuzz.py --seconds $(FUZZ_SECONDS) $(FUZZ_TARGETS)

test-torch: $(TORCH_VENV)/.ready  ## run the tests of fastgd.torch beside PyTorch
	$(TORCH_VENV)/bin/python -m pytest tests/test_torch_*.py $(PYTEST_ARGS)

$(VENV)/.notebooks: $(VENV)/.test
	$(call install_extras,notebooks)
	@touch $@

test-notebooks: $(VENV)/.notebooks  ## run the notebooks of examples/notebooks
	$(BIN)/python -m pytest tests/test_notebooks.py $(PYTEST_ARGS)

test-sweep: $(VENV)/pyvenv.cfg  ## sweep every float32 input of each activation: an hour of one core
	$(BIN)/python tools/sweep.py $(SWEEP_ARGS)

test-determinism: $(VENV)/.test  ## run 1,000 fits on several threads and instruction sets, to equal bits
	$(BIN)/python -m pytest tests/test_determinism.py -m 'determinism or not determinism' $(PYTEST_ARGS)

test-large: $(VENV)/.test  ## run the tests on data of more than 2^31 elements: 12 GB of memory
	$(BIN)/python -m pytest tests/test_sizes.py -m large $(PYTEST_ARGS)
test-isa: $(VENV)/.test  ## run the C driver and the suite on each instruction set of this machine
	$(BIN)/python tools/digests.py native
	for isa in $$($(BIN)/python -c 'from fastgd import _kernels; print(*_kernels.available_isas())'); do \
	    FASTGD_ISA=$$isa $(BIN)/python -m pytest $(PYTEST_ARGS) || exit 1; \
	done

test-qemu: $(VENV)/.built  ## the same bits on AArch64, Haswell and Nehalem, emulated (Debian: qemu-user)
	$(BIN)/python tools/digests.py qemu

test-arm64: $(VENV)/.wheels  ## build a wheel for AArch64, and use it in an arm64 Debian, emulated
	$(BIN)/python tools/arm64.py

test-cross: $(VENV)/.wheels  ## compile the C core for Windows, macOS and musl, and run what can be run
	$(BIN)/python tools/digests.py cross
test-asan: $(VENV)/pyvenv.cfg  ## run the suite under AddressSanitizer and UndefinedBehaviorSanitizer
	$(BIN)/python tools/sanitizers.py $(if $(TEST_FILES),--only $(TEST_FILES)) -- $(PYTEST_ARGS)

test-tsan: $(VENV)/.test  ## look for races in the C programs of the team and of fits, and in the suite
	$(BIN)/python -m pytest -m 'grid or not grid' -k no_race tests/test_threads.py $(PYTEST_ARGS)
	$(BIN)/python tools/sanitizers.py --threads $(if $(TEST_FILES),--only $(TEST_FILES)) -- $(PYTEST_ARGS)

test-valgrind: $(VENV)/.built  ## run the C programs and short tests under valgrind
	$(BIN)/python tools/memcheck.py

test-guard: $(VENV)/.test  ## look for reads and writes beyond arrays, with guard pages
	$(BIN)/python -m pytest -m 'grid or not grid' tests/test_guard.py $(PYTEST_ARGS)

test-memory: $(VENV)/.test  ## let every allocation fail once, some hours
	$(BIN)/python -m pytest -m memory -rP tests/test_memory.py $(PYTEST_ARGS)

test-coverage: $(VENV)/pyvenv.cfg  ## count the lines and branches of C, and the lines of Python, that tests reach
	$(BIN)/python tools/line_coverage.py $(if $(TEST_FILES),--only $(TEST_FILES)) -- $(PYTEST_ARGS)

test-seeded-faults: $(VENV)/.dev  ## make a fault, see whether the suite finds it, and so on
	$(BIN)/python tools/find_seeded_faults.py $(FAULTS)

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
	$(BIN)/yamllint --strict .github
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/validate-pyproject pyproject.toml
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

wheels: $(VENV)/.wheels  ## manylinux wheels for every Python here, each installed and used: dist/
	$(BIN)/python tools/wheels.py $(WHEELS_ARGS)

clean:  ## remove what was built, and the environments
	rm -rf build dist docs/_build docs/gallery $(VENV) $(BENCH_VENV) $(TORCH_VENV) .venv-sklearn-* .venv-oldest .venv-asan .venv-tsan \
	    .venv-coverage .venv-faults .pytest_cache .ruff_cache .mypy_cache src/*.egg-info
	find src tests -name '*.so' -o -name '__pycache__' | xargs rm -rf
