# Every target makes .venv and installs what it needs when that is missing, and nothing when it is there.
PYTHON ?= python3
BIN := .venv/bin
EXTRAS := export,record,batch,cluster,calibration,trt,litert-export,ncnn-export,report,web,completion,docs,dev

.PHONY: demo test check docs contracts pythons arm64 clean

# A file's tests run in one process: what they share is then made once.
TEST := -m pytest -n auto --dist loadfile -m "not slow"

demo: .venv/ready
	$(BIN)/python examples/demo.py

test: .venv/ready
	$(BIN)/python $(TEST)

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python $(TEST)

# The documentation, into site/; a broken link is an error.
docs: .venv/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# Every network through every target: hours on two cores, so by hand before a release, and not in CI. Each part runs by
# itself too, and is meant to take less than half an hour: make contracts-onnx, contracts-trt, … contracts-rest.
PARTS := $(patsubst tests/contracts/test_%.py,%,$(shell grep -l 'mark\.slow' tests/contracts/test_*.py))
IN_onnx := tests/contracts/test_models.py tests/contracts/test_exports.py
IN_pages := tests/export/web tests/benchmarks/test_phone.py
IN_signals := tests/test_interrupted.py tests/runtime
DOCUMENTS := tests/test_docs.py tests/test_distributions.py
IN_documents := $(DOCUMENTS) -k "not figure"
IN_figures := tests/test_docs.py -k figure
IN_rest := tests $(addprefix --ignore=,tests/contracts $(IN_pages) $(IN_signals) $(DOCUMENTS))
CONTRACTS := onnx $(filter-out models exports,$(PARTS)) pages signals documents figures rest

contracts: $(addprefix contracts-,$(CONTRACTS))

contracts-%: .venv/ready
	$(BIN)/python -m pytest -n auto --dist loadgroup -m slow $(or $(IN_$*),tests/contracts/test_$*.py)

# The runtime and the bundled networks on an emulated Arm64 machine, which takes Debian 12 on x86-64.
arm64: .venv/ready
	$(BIN)/python -m tests.arm64

# What a converter needs although its metadata contradicts the pins of the rest; each file says why.
UNASKED := $(wildcard export/*/requirements.txt)

# The base install in a fresh environment of every Python that is on this machine: some minutes.
pythons: .venv/ready
	.ci/pythons

.venv/ready: pyproject.toml constraints.txt $(UNASKED)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	$(BIN)/python -m pip install --quiet --no-deps $(addprefix --requirement ,$(UNASKED))
	touch $@

clean:
	rm -rf .venv demo out site
