# The one door for people and for CI. `make help` lists what it opens.
.DEFAULT_GOAL := help
.PHONY: help setup run test check lint format generate guarantees descriptor \
  release-descriptor clients differential fuzz soak flood crowds sigterm indistinguishable mutants bench \
  bench-quota audit wheel floor
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
LOAD := $(VENV)/load
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PROTOS := $(sort $(wildcard protos/healthomics/v1/*.proto))
CODE := server bench clients tests
RELEASED := protos/released.binpb
OUT := generated
DESCRIPTOR := build/healthomics.v1.binpb

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-19s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make the development environment in .venv

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed: set PYTHON=/its/path" >&2; exit 1; }
	@echo "Setting up $(VENV) (once, about a minute)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install -c constraints.txt pip
	@$(PIP) install -c constraints.txt --editable . --group dev
	@touch $@

$(LOAD): $(READY)
	@echo "Adding what the loads need"
	@$(PIP) install -c constraints.txt --group load
	@touch $@

run: $(READY) ## serve against the sandbox and show one answer; Ctrl-C ends it
	@exec $(BIN)/healthomics-gateway serve --sandbox

test: $(READY) ## run the tests; ARGS="-k drain" picks some
	$(BIN)/pytest --numprocesses auto $(COVERAGE) $(ARGS)

check: $(READY) ## all that CI runs: lint, wheel, clients, tests with coverage, short loads
	$(MAKE) lint
	$(MAKE) wheel
	$(MAKE) floor
	$(MAKE) clients
	$(MAKE) test COVERAGE="--cov --cov-report=term"
	$(MAKE) fuzz ARGS="--seconds 15"
	$(MAKE) soak ARGS="--seconds 20"
	$(MAKE) flood ARGS="--seconds 1 --rounds 1"
	$(MAKE) crowds ARGS="--short"
	$(MAKE) sigterm ARGS="--times 1"
	$(MAKE) mutants ARGS="--short"

lint: $(READY) ## check style, types, the contract and who imports whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	$(BIN)/buf breaking --against $(RELEASED)

format: $(READY) ## bring code and protos into shape
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .
	$(BIN)/buf format --write

generate: $(READY) ## make generated/ anew from protos/
	@rm -rf $(OUT) && mkdir -p $(OUT)
	$(BIN)/python -m grpc_tools.protoc --proto_path=protos \
	  --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy \
	  --python_out=$(OUT) --mypy_out=quiet:$(OUT) $(PROTOS)
	$(BIN)/python -m grpc_tools.protoc --proto_path=protos \
	  --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	  --grpc_python_out=$(OUT) --mypy_grpc_out=quiet:$(OUT) \
	  protos/healthomics/v1/run_service.proto

guarantees: $(READY) ## list the marked tests in docs/internals/guarantees.md
	$(BIN)/python tests/docs/guarantees.py

descriptor: $(READY) ## write the contract's descriptor set to build/healthomics.v1.binpb
	@mkdir -p $(dir $(DESCRIPTOR))
	$(BIN)/buf build --as-file-descriptor-set --output $(DESCRIPTOR)

release-descriptor: $(READY) ## take the contract as it is for the one last released
	$(BIN)/buf build --exclude-source-info --output $(RELEASED)

clients: $(READY) ## build and run the clients of other languages against the sandbox
	$(BIN)/python clients/run.py

differential: $(READY) ## translate 100,000 random answers and rebuild what was sent
	PYTHONPATH=tests $(BIN)/python -m fuzz.differential $(ARGS)

fuzz: $(LOAD) ## fuzz the readers of upstream bytes for a minute; ARGS="--seconds 600"
	$(BIN)/python tests/fuzz/fuzz.py $(ARGS)

soak: $(LOAD) ## load the gateway with random faults for ten minutes; draws build/soak.png
	PYTHONPATH=tests $(BIN)/python -m load.soak $(ARGS)

flood: $(READY) ## abuse HTTP/2 beside a victim, and compare its errors and its p99
	PYTHONPATH=tests $(BIN)/python -m load.flood $(ARGS)

crowds: $(LOAD) ## load it with crowds of calls and watches; draws build/watches.png
	PYTHONPATH=tests $(BIN)/python -m load.crowds $(ARGS)

sigterm: $(READY) ## end a gateway under load ten times, with another one beside it
	PYTHONPATH=tests $(BIN)/python -m load.sigterm $(ARGS)

indistinguishable: $(READY) ## compare a run that a caller may not see with one that isn't there
	PYTHONPATH=tests $(BIN)/python -m load.indistinguishable $(ARGS)

mutants: $(READY) ## see that the suite finds each of the seeded bugs
	$(BIN)/python tests/mutants/run.py $(ARGS)

bench: $(READY) ## measure what a call costs, beside two peers (needs h2load)
	PYTHONPATH=bench $(BIN)/python -m cost $(ARGS)

bench-quota: $(LOAD) ## share a quota of 10 calls a second; draws build/bench-quota.png
	PYTHONPATH=bench $(BIN)/python -m quota $(ARGS)

audit: $(READY) ## look up known vulnerabilities of all that is installed (needs their service)
	@$(PYTHON) -m venv build/audit
	@build/audit/bin/python -m pip --disable-pip-version-check --quiet install pip-audit
	build/audit/bin/pip-audit --path $$($(BIN)/python -c \
	  'import sysconfig; print(sysconfig.get_path("purelib"))') --progress-spinner off

wheel: $(READY) ## build the wheel and try it in an environment of its own
	@rm -rf build/wheel && mkdir -p build/wheel
	$(PIP) wheel --no-deps --wheel-dir build/wheel .
	$(PYTHON) -m venv build/wheel/venv
	build/wheel/venv/bin/python -m pip --disable-pip-version-check --quiet \
	  install -c constraints.txt build/wheel/*.whl
	cd build/wheel && venv/bin/healthomics-gateway sandbox --help > /dev/null

FLOOR := build/floor
floor: $(READY) ## run tests/e2e/test_paths.py with the oldest grpcio that is supported
	@mkdir -p $(FLOOR)
	@sed -E -e 's/^(grpcio(-health-checking|-reflection|-status|-testing)?)==.*/\1==1.78.0/' \
	  -e 's/^protobuf==.*/protobuf==6.33.5/' constraints.txt > $(FLOOR)/constraints.txt
	@$(PYTHON) -m venv $(FLOOR)/venv
	@$(FLOOR)/venv/bin/python -m pip --disable-pip-version-check --quiet \
	  install -c $(FLOOR)/constraints.txt pip
	@$(FLOOR)/venv/bin/python -m pip --disable-pip-version-check --quiet \
	  install -c $(FLOOR)/constraints.txt --editable . --group dev
	$(FLOOR)/venv/bin/pytest -q tests/e2e/test_paths.py
