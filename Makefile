# Every target works from a fresh clone with git, make and Python 3.11 (with venv) only: it
# makes .venv, installs the tested pins of constraints.txt there, and uses it again next time.
#
# PYTHON=/path/to/python (with a slash) uses that environment as it is, and installs nothing.
# For `wheelhouse`, PYTHON is the version of the device's Python, such as 3.10.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV ?= .venv
VENV310 ?= .venv310
PYTHON ?=
ARCH ?= aarch64
# One more than the cores that are asked for: a third of the tests' time is waiting for processes.
WORKERS ?= 3
# The tests start some hundred processes: each would compile our modules again, for a quarter of
# its time, where an environment (of many images) asks for no compiled ones to be kept.
test test-310 test-postgres attacks: export PYTHONDONTWRITEBYTECODE :=
SECONDS ?= 60
ARGS ?=
OLD ?=
PAIRS ?=
LIST ?=
NEW ?=

# What `make demo` and the benchmarks need; small, since somebody waits for it.
DEMO_SET := -e .[agent,distributor,fleet,quantize] scikit-learn tritonclient[grpc]
DEV_SET := -e .[agent,distributor,fleet,quantize,litert,dev]
DEV310_SET := -e .[agent,fleet,litert,dev]
FUZZ_VENV := build/fuzz-venv
FUZZ_SET := -e .[client] atheris==3.0.0

ifneq ($(and $(filter command%,$(origin PYTHON)),$(findstring /,$(PYTHON))),)
  RUN := $(PYTHON)
  DEMO_READY :=
  DEV_READY :=
else
  RUN := $(VENV)/bin/python
  DEMO_READY := $(VENV)/.demo-ready
  DEV_READY := $(VENV)/.dev-ready
endif

.PHONY: help demo test attacks test-310 test-install lint format bench bench-delivery bench-delta bench-runtime \
        test-tensorrt test-postgres \
        fuzz coverage-delta protos exports readme wheelhouse clean

help:  ## list these targets
	@grep -E '^[a-z0-9-]+:.*  ## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*  ## /\1\t/' \
	    | awk -F '\t' '{ printf "  make %-15s %s\n", $$1, $$2 }'

demo: $(DEMO_READY)  ## the main job on this machine, start to end; or OLD=a.onnx NEW=b.onnx
	$(RUN) -m demo $(if $(OLD),--old "$(OLD)") $(if $(NEW),--new "$(NEW)") $(ARGS)

test: $(DEV_READY)  ## every test, with coverage, at most eight minutes on two cores
	rm -f .coverage .coverage.*
	mkdir -p build
	$(RUN) -m coverage run -m pytest -n $(WORKERS) --dist loadfile --durations=15 -q $(ARGS)
	$(RUN) -m coverage combine -q
	$(RUN) -m coverage json -q -o build/coverage.json
	$(RUN) .ci/check_coverage.py build/coverage.json

attacks: $(DEV_READY)  ## every attack, and all of the matrix of damaged metadata; 15 minutes at most
	$(RUN) -m pytest -q -n $(WORKERS) --dist worksteal -m 'attacks or not attacks' \
	    tests/attacks tests/conformance $(ARGS)

test-310: | build  ## the SDK's and the agent's tests on Python 3.10, where it is installed
	@if python="$$(.ci/find-python 3.10)"; then \
	    .ci/make-venv "$$python" $(VENV310) constraints-3.10.txt '$(DEV310_SET)' \
	    && $(VENV310)/bin/python -m pytest -q -n $(WORKERS) --dist loadfile -m 'not distributor' \
	        tests/edge_sdk tests/device_agent $(ARGS); \
	else \
	    echo "!!! SKIPPED: no Python 3.10 on this machine; nothing was tested on 3.10" >&2; \
	fi

test-tensorrt: $(DEV_READY)  ## the engine tensorrt: its library's real names (network, compiler), a GPU if any
	$(RUN) -m tests.support.tensorrt_record
	$(RUN) -m pytest -q -rs tests/edge_sdk/engines/tensorrt $(ARGS)

# What reads or writes the catalog; the tests of the commands that speak to a distributor as well.
CATALOG_TESTS := $(addprefix tests/distributor/,audit builds catalog devices identity operators \
    rollouts services signing storage test_cli_keys.py test_server.py) tests/edge_sdk/fleet

test-postgres: $(DEV_READY)  ## the distributor's tests on a PostgreSQL of their own, where it is installed
	$(RUN) -m tests.support.postgres $(RUN) -m pytest -q -n $(WORKERS) --dist loadfile \
	    $(CATALOG_TESTS) $(ARGS)

test-install:  ## each extra alone in a fresh environment starts its commands; NumPy 1
	.ci/test-install

lint: $(DEV_READY)  ## formatting, lint, types, import contracts
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	$(RUN) -c 'from importlinter.cli import lint_imports_command as run; run()'

format: $(DEV_READY)  ## let ruff format and mend what it can
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

bench: $(DEMO_READY)  ## figures of the delta engine and the runtime: build/bench.json
	$(RUN) -m benchmarks.bench $(ARGS)

bench-delivery: $(DEMO_READY)  ## whole over HTTPS against delta over gRPC: build/bench-delivery.json
	$(RUN) -m benchmarks.delivery $(ARGS)

bench-delta: $(DEMO_READY)  ## our deltas against every peer; PAIRS=folder LIST=pairs.json
	$(RUN) -m benchmarks.delta.bench $(if $(PAIRS),--pairs "$(PAIRS)") $(if $(LIST),--list "$(LIST)") \
	    $(ARGS)

bench-runtime: $(DEMO_READY)  ## the runtime beside Triton and the floors: build/bench-runtime.json
	benchmarks/runtime/install_peers.sh || echo "what is missing is not measured" >&2
	$(RUN) -m benchmarks.runtime.bench $(ARGS)

fuzz: $(FUZZ_VENV)/.ready  ## every parser with hostile bytes; SECONDS=60 each, ARGS="TARGET ..."
	$(FUZZ_VENV)/bin/python -m tests.fuzz.run --seconds $(SECONDS) $(ARGS)
	.ci/fuzz-kernel $(SECONDS) build/fuzz \
	    $(FUZZ_VENV)/lib/python3.*/site-packages/libclang_rt.fuzzer_no_main.a

coverage-delta: $(DEV_READY)  ## branches of all that decodes, in Python and C: 95 % of each file
	$(RUN) .ci/coverage_delta.py build/coverage-delta $(WORKERS)

protos: $(DEV_READY)  ## write edge_sdk/protos again from protos/*.proto
	$(RUN) -m grpc_tools.protoc -I edge_sdk/protos=protos --python_out=. --grpc_python_out=. \
	    --mypy_out=. --mypy_grpc_out=. protos/*.proto

exports: $(DEV_READY)  ## write the committed lists of exports and of wire fields again
	$(RUN) -m tests.architecture.snapshots

readme: $(DEMO_READY)  ## fill the README's tables from build/*.json
	$(RUN) -m benchmarks.readme build

wheelhouse:  ## wheels for devices without an index: PYTHON=3.10 ARCH=aarch64
	.ci/wheelhouse $(if $(PYTHON),$(PYTHON),3.10) $(ARCH)

clean:  ## remove what these targets made, environments included
	rm -rf build dist wheelhouse $(VENV) $(VENV310) *.egg-info edge_sdk/*/_*.so device_agent/*/_*.so .mypy_cache .ruff_cache \
	    .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.*

build:
	mkdir -p build

KERNEL_SOURCES := setup.py $(wildcard csrc/*.c csrc/*.h)

$(FUZZ_VENV)/.ready: pyproject.toml constraints.txt $(KERNEL_SOURCES)
	@python="$$(.ci/find-python 3.11)" \
	    && .ci/make-venv "$$python" $(FUZZ_VENV) constraints.txt '$(FUZZ_SET)'
	@touch $@

$(VENV)/.demo-ready: pyproject.toml constraints.txt $(KERNEL_SOURCES)
	@python="$$(.ci/find-python 3.11)" \
	    && .ci/make-venv "$$python" $(VENV) constraints.txt '$(DEMO_SET)'
	@touch $@

$(VENV)/.dev-ready: pyproject.toml constraints.txt $(KERNEL_SOURCES)
	@python="$$(.ci/find-python 3.11)" \
	    && .ci/make-venv "$$python" $(VENV) constraints.txt '$(DEV_SET)'
	@touch $(VENV)/.demo-ready $@
