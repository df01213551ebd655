# Every task of the repository, for developers and for CI. `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help setup run test check lint lint-quick format generate guarantees package-graph \
  descriptor release-descriptor tools validator clients stubs differential fuzz soak flood crowds \
  sigterm rolling replicas store-attacks simulation indistinguishable cardinality dashboard \
  dashboard-picture statusz-shots mutants \
  mutation bench bench-quota audit wheel floor deploy-tools deploy-check deploy-files
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
LOAD := $(VENV)/load
MUTATION := $(VENV)/mutation
TOOLS := build/tools
DEPLOY_TOOLS := build/deploy-tools
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PROTOS := $(sort $(wildcard protos/healthomics/v1/*.proto))
CODE := server bench clients tests
RELEASED := protos/released.binpb
OUT := generated
PACKAGE := healthomics/v1
DESCRIPTOR := build/healthomics.v1.binpb
TEMPLATES := clients/templates
# No library of these languages has google.rpc; the descriptor set has it.
WITH_RPC := grpc-js typescript
DESCRIPTOR_SET := $(OUT)/$(PACKAGE)/descriptor_set.binpb
LANGUAGES := $(patsubst $(TEMPLATES)/buf.gen.%.yaml,%,$(wildcard $(TEMPLATES)/buf.gen.*.yaml))

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-19s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## create the development environment in .venv

$(READY): pyproject.toml generated/pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed: set PYTHON=/its/path" >&2; exit 1; }
	@echo "Setting up $(VENV), once: this needs the network and takes one to five minutes"
	@echo "1/3 creating the environment"
	@$(PYTHON) -m venv $(VENV)
	@echo "2/3 installing pip"
	@$(PIP) install -c constraints.txt pip
	@echo "3/3 installing the gateway, its dependencies and the development tools"
	@$(PIP) install -c constraints.txt --editable ./generated --editable . --group dev
	@$(PIP) install -c constraints.txt --no-deps --group generate
	@touch $@

$(LOAD): $(READY)
	@echo "Installing what the load tests need"
	@$(PIP) install -c constraints.txt --group load
	@touch $@

$(MUTATION): $(READY)
	@echo "Adding what mutation testing needs"
	@$(PIP) install -c constraints.txt --group mutation
	@touch $@

run: $(READY) ## serve against the sandbox and show one answer; Ctrl-C ends it
	@exec $(BIN)/healthomics-gateway serve --sandbox

test: $(READY) ## run the tests; ARGS="-k drain" selects some
	$(BIN)/pytest --numprocesses auto $(COVERAGE) $(ARGS)

check: $(READY) ## run what CI runs: lint, wheel, clients, tests with coverage, short loads
	$(MAKE) lint
	$(MAKE) wheel
	$(MAKE) floor
	$(MAKE) clients
	@# Without Go, the tests that need these tools are skipped. CI must have Go.
	$(MAKE) tools || test -z "$$CI"
	$(MAKE) deploy-tools || test -z "$$CI"
	@# Likewise, with npm and Java: the validator of the status page.
	$(MAKE) validator || test -z "$$CI"
	$(MAKE) test COVERAGE="--cov --cov-report=term"
	$(MAKE) fuzz ARGS="--seconds 15"
	$(MAKE) soak ARGS="--seconds 20"
	$(MAKE) flood ARGS="--seconds 1 --rounds 1"
	$(MAKE) crowds ARGS="--short"
	$(MAKE) sigterm ARGS="--times 1"
	$(MAKE) rolling
	$(MAKE) replicas ARGS="--short"
	$(MAKE) replicas ARGS="--short --workers"
	$(MAKE) cardinality ARGS="--short"
	$(MAKE) dashboard-picture ARGS="--share 0.1 --picture build/dashboard.png"
	$(MAKE) mutants ARGS="--short"

lint: lint-quick ## check style, types, imports between packages and the contract
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/buf format --diff --exit-code
	$(BIN)/buf breaking --against $(RELEASED)

lint-quick: $(READY) ## check style alone, in seconds
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/buf lint

format: $(READY) ## format code and protos
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .
	$(BIN)/buf format --write

generate: $(READY) ## generate the code in generated/ from protos/
	@$(BIN)/python -c 'import grpc_tools' || { \
	  echo "Python 3.11 or 3.12 is needed: grpcio-tools has no wheels for a later one," \
	  "as its version is an old one; see pyproject.toml" >&2; exit 1; }
	@rm -rf $(OUT)/$(PACKAGE) && mkdir -p $(OUT)/$(PACKAGE)
	$(BIN)/python -m grpc_tools.protoc --proto_path=protos \
	  --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy \
	  --python_out=$(OUT) --mypy_out=quiet:$(OUT) $(PROTOS)
	$(BIN)/python -m grpc_tools.protoc --proto_path=protos \
	  --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	  --grpc_python_out=$(OUT) --mypy_grpc_out=quiet:$(OUT) \
	  protos/$(PACKAGE)/run_service.proto
	@touch $(OUT)/$(PACKAGE)/py.typed
	$(BIN)/python -m grpc_tools.protoc --proto_path=protos \
	  --proto_path=$$($(BIN)/python -c \
	    'import sysconfig; print(sysconfig.get_path("purelib"))') \
	  --include_imports --include_source_info \
	  --descriptor_set_out=$(DESCRIPTOR_SET) \
	  $(PROTOS) google/rpc/status.proto google/rpc/error_details.proto

guarantees: $(READY) ## list the marked tests in docs/internals/guarantees.md
	$(BIN)/python tests/docs/guarantees.py

package-graph: $(READY) ## print which packages import which, and check the layers
	@$(BIN)/python tests/docs/package_graph.py $(ARGS)

descriptor: ## copy the contract's descriptor set to build/healthomics.v1.binpb
	@mkdir -p $(dir $(DESCRIPTOR))
	cp $(DESCRIPTOR_SET) $(DESCRIPTOR)

release-descriptor: $(READY) ## record the current contract as the last released one
	$(BIN)/buf build --exclude-source-info --output $(RELEASED)

tools: $(TOOLS)/ready ## install the tools of docs/guide/debugging.md into build/tools, with Go

# The page is the only place of the versions. Go decides what has to be built again.
$(TOOLS)/ready: docs/guide/debugging.md
	@command -v go > /dev/null || { echo "go isn't on PATH" >&2; exit 1; }
	@mkdir -p $(TOOLS)
	sed -n 's/^go install //p' $< | GOBIN=$(abspath $(TOOLS)) xargs -n 1 go install
	@touch $@

deploy-tools: $(DEPLOY_TOOLS)/ready ## build helm and promtool into build/deploy-tools, with Go

# As above. The first build takes minutes, so the names of the packages show its progress.
$(DEPLOY_TOOLS)/ready: docs/guide/deployment.md $(wildcard deploy/check/*)
	@command -v go > /dev/null || { echo "go isn't on PATH" >&2; exit 1; }
	@mkdir -p $(DEPLOY_TOOLS)
	sed -n 's/^go install //p' $< | GOBIN=$(abspath $(DEPLOY_TOOLS)) xargs -n 1 go install -v
	cd deploy/check && go vet ./... && go build -o $(abspath $(DEPLOY_TOOLS))/check-manifests .
	@touch $@

deploy-check: $(READY) ## check everything in deploy/ with the tools of make deploy-tools
	$(BIN)/pytest tests/deploy $(ARGS)

deploy-files: $(READY) ## write the chart's files that settings, alerts and dashboard determine
	$(BIN)/python deploy/chart_files.py

VALIDATOR := vnu-jar@26.9.27
validator: $(TOOLS)/vnu.jar ## install the HTML validator of the tests, with npm

$(TOOLS)/vnu.jar:
	@command -v npm > /dev/null || { echo "npm isn't on PATH" >&2; exit 1; }
	@mkdir -p $(TOOLS)/vnu
	npm pack --silent --pack-destination $(TOOLS)/vnu $(VALIDATOR)
	tar -xzf $(TOOLS)/vnu/*.tgz -C $(TOOLS)/vnu package/build/dist/vnu.jar
	mv $(TOOLS)/vnu/package/build/dist/vnu.jar $@
	@rm -r $(TOOLS)/vnu

clients: $(READY) ## build the clients, and run the conformance list with each of them
	@PYTHONPATH=tests $(BIN)/python -m conformance.run $(ARGS)

# LANG also sets the locale. LC_ALL overrides it, as `go` isn't a locale.
stubs: $(READY) ## generate a language's stubs in build/stubs/LANG: make stubs LANG=go
	@test -f '$(TEMPLATES)/buf.gen.$(LANG).yaml' || { \
	  echo "LANG must be one of: $(LANGUAGES)" >&2; exit 2; }
	@rm -rf build/stubs/$(LANG)
	@LC_ALL=C.UTF-8 PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/buf generate \
	  $(if $(filter $(LANG),$(WITH_RPC)),$(DESCRIPTOR_SET) --exclude-path google/protobuf,protos) \
	  --template $(TEMPLATES)/buf.gen.$(LANG).yaml --output build/stubs/$(LANG)
	@echo "The stubs are in build/stubs/$(LANG)"

differential: $(READY) ## translate 100,000 random answers and rebuild the original of each
	PYTHONPATH=tests $(BIN)/python -m fuzz.differential $(ARGS)

fuzz: $(LOAD) ## fuzz the parsers of AWS's answers for a minute; ARGS="--seconds 600"
	$(BIN)/python tests/fuzz/fuzz.py $(ARGS)

soak: $(LOAD) ## load a gateway for ten minutes with random faults; ARGS=--shared for workers
	PYTHONPATH=tests $(BIN)/python -m load.soak $(ARGS)

flood: $(READY) ## abuse HTTP/2, and measure what another client notices of it
	PYTHONPATH=tests $(BIN)/python -m load.flood $(ARGS)

crowds: $(LOAD) ## load a gateway with many calls and watches; draws build/watches.png
	PYTHONPATH=tests $(BIN)/python -m load.crowds $(ARGS)

sigterm: $(READY) ## stop a gateway under load ten times, with another one beside it
	PYTHONPATH=tests $(BIN)/python -m load.sigterm $(ARGS)

rolling: $(READY) ## replace certificate, rules and processes of two gateways under load
	PYTHONPATH=tests $(BIN)/python -m load.rolling

replicas: $(LOAD) ## load three replicas and their store with faults; ARGS=--workers for workers
	PYTHONPATH=tests $(BIN)/python -m load.replicas $(ARGS)

store-attacks: $(READY) ## attack the store of two gateways, and check what their callers get
	PYTHONPATH=tests $(BIN)/python -m load.store_attacks $(ARGS)

indistinguishable: $(READY) ## compare the delays of a hidden run and of a missing one
	PYTHONPATH=tests $(BIN)/python -m load.indistinguishable $(ARGS)

cardinality: $(READY) ## count the series of the metrics with 10,000 callers and 100,000 runs
	PYTHONPATH=tests $(BIN)/python -m load.cardinality $(ARGS)

simulation: $(LOAD) ## simulate replicas that share quotas; ARGS="--picture FILE" draws them
	PYTHONPATH=tests $(BIN)/python -m load.simulation $(ARGS)

dashboard: $(READY) ## write deploy/grafana/dashboard.json from the table of its panels
	$(BIN)/python deploy/grafana/dashboard.py

dashboard-picture: $(LOAD) ## load a gateway, and draw its metrics as docs/guide/dashboard.png
	PYTHONPATH=tests $(BIN)/python -m load.dashboard $(ARGS)

statusz-shots: $(LOAD) ## draw the status page in build/statusz (needs Chromium)
	PYTHONPATH=tests $(BIN)/python -m load.statusz_shots $(ARGS)

mutants: $(READY) ## check that the tests find each of the seeded bugs
	$(BIN)/python tests/mutants/run.py $(ARGS)

mutation: $(MUTATION) ## mutate modules and run their unit tests; ARGS="runs/retry" or "--all"
	@$(BIN)/python tests/mutants/mutation.py $(ARGS)

bench: $(READY) ## measure the CPU of a call, beside two other servers (needs h2load)
	PYTHONPATH=bench $(BIN)/python -m cost $(ARGS)

bench-quota: $(LOAD) ## share a quota of 10 calls a second; draws build/bench-quota.png
	PYTHONPATH=bench $(BIN)/python -m quota $(ARGS)

audit: $(READY) ## look up known vulnerabilities of the dependencies (needs network)
	@$(PYTHON) -m venv build/audit
	@build/audit/bin/python -m pip --disable-pip-version-check --quiet install pip-audit
	build/audit/bin/pip-audit --path $$($(BIN)/python -c \
	  'import sysconfig; print(sysconfig.get_path("purelib"))') --progress-spinner off

wheel: $(READY) ## build the wheels and try them in new environments
	@rm -rf build/wheel && mkdir -p build/wheel
	$(PIP) wheel --no-deps --wheel-dir build/wheel ./generated .
	$(BIN)/python tests/contract/wheels.py build/wheel/*.whl
	$(PYTHON) -m venv build/wheel/venv
	build/wheel/venv/bin/python -m pip --disable-pip-version-check --quiet \
	  install -c constraints.txt build/wheel/*.whl
	$(BIN)/python tests/contract/installed.py build/wheel/venv/bin/healthomics-gateway

FLOOR := build/floor
floor: $(READY) ## run tests/e2e/test_paths.py with the oldest supported grpcio
	@mkdir -p $(FLOOR)
	@sed -E -e 's/^(grpcio(-channelz|-health-checking|-reflection|-status|-testing)?)==.*/\1==1.78.0/' \
	  -e 's/^protobuf==.*/protobuf==6.33.5/' constraints.txt > $(FLOOR)/constraints.txt
	@$(PYTHON) -m venv $(FLOOR)/venv
	@$(FLOOR)/venv/bin/python -m pip --disable-pip-version-check --quiet \
	  install -c $(FLOOR)/constraints.txt pip
	@$(FLOOR)/venv/bin/python -m pip --disable-pip-version-check --quiet \
	  install -c $(FLOOR)/constraints.txt --editable ./generated --editable . --group dev
	$(FLOOR)/venv/bin/pytest -q tests/e2e/test_paths.py
