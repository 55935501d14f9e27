PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
NATIVE := .venv/.native
SERVICES := .venv/services/.installed
KERNELS := $(wildcard src/deconvseg/ops/*/*.cpp src/deconvseg/ops/*/*.h) src/deconvseg/ops/native/build.py
DEMO := demo
# A hundred processes that the tests start would compile the package anew where the environment forbids to keep what is compiled.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile
# Real images for the tests that use them; without the folder those tests are skipped and say so.
export DECONVSEG_DATA ?= $(abspath $(wildcard ../shared/data))

.PHONY: demo test test-all test-faults test-gpu test-services style format docs docs-serve clean

demo: $(NATIVE)  ## Generate data, train, predict, evaluate, report: under four minutes on two cores, once installed.
	rm -rf $(DEMO)
	$(BIN)/deconvseg data demo $(DEMO)/synthetic
	$(BIN)/deconvseg train $(DEMO)/synthetic -o $(DEMO)/run --splits $(DEMO)/synthetic/splits.json --max-time 200s
	$(BIN)/deconvseg predict -i $(DEMO)/synthetic -o $(DEMO)/masks -m $(DEMO)/run --splits $(DEMO)/synthetic/splits.json --split test
	$(BIN)/deconvseg evaluate -g $(DEMO)/synthetic -p $(DEMO)/masks -o $(DEMO)/masks/metrics.json --splits $(DEMO)/synthetic/splits.json --split test
	$(BIN)/deconvseg report $(DEMO)/run --metrics $(DEMO)/masks/metrics.json
	@echo
	@echo "masks:   $(DEMO)/masks"
	@echo "metrics: $(DEMO)/masks/metrics.json"
	@echo "report:  $(DEMO)/run/report.html   (open it in a browser)"

test: TESTS := -m "not slow and not service"
test-all: TESTS := -m "not service"
test-faults: TESTS := -m faults
test-gpu: TESTS := -m gpu
test test-all: style  ## Style, types, floors, tests; test-all runs the sanitizers too.
test test-all test-faults test-gpu: $(NATIVE)
	$(PYTEST) $(TESTS)

test-services: $(NATIVE) $(SERVICES)  ## The tests that need a server, which they start; its packages are in .venv/services.
	$(PYTEST) -m service

$(SERVICES): tests/services.txt $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --target $(@D) -r $<
	touch $@

style: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED)  ## Bring the code into the house style.
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(INSTALLED)  ## The documentation as a site, in site/; a warning is an error.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

docs-serve: docs  ## The site at http://127.0.0.1:8000, built anew when a page changes.
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve

clean:
	rm -rf .venv $(DEMO) site

$(NATIVE): $(INSTALLED) $(KERNELS)
	$(BIN)/python src/deconvseg/ops/native/build.py --optional
	touch $@

# The kernels have their own rule, which shows what the compiler says and runs again when only they change.
$(INSTALLED): pyproject.toml constraints.txt tests/peers.txt tests/trackers.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	DECONVSEG_NATIVE=0 $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target .venv/peers -r tests/peers.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r tests/trackers.txt
	touch $@
