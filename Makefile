# People, hooks and CI call the same tasks.
SHELL := /bin/bash
PYTHON ?= python3.11
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
.DEFAULT_GOAL := help
.PHONY: help setup demo pull repro test test-containers check check-lock compile image lock bench realset

help: ## list the tasks
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: .venv/installed ## create .venv from the hashed lock

# compiled here, as the image is: where PYTHONDONTWRITEBYTECODE is set, every process would compile torch and the rest again
.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv || python3 -m venv .venv
	.venv/bin/pip install --quiet uv
	.venv/bin/uv pip sync --python .venv/bin/python --require-hashes --compile-bytecode requirements.lock
	.venv/bin/uv pip install --python .venv/bin/python --no-deps --no-build-isolation --editable .
	.venv/bin/python -m compileall -q src
	@touch $@

data/protocol.tsv: | setup
	earmark voices data
	@cp data.dvc data.dvc.pinned
	@dvc add --quiet data
	@diff -q data.dvc.pinned data.dvc >/dev/null || echo "The voices differ on this machine from the pinned ones: data.dvc now holds the digest of yours."
	@rm data.dvc.pinned

# A model that the gate refuses is a result, as it is to the stage: promote then says which rules failed, and the demo shows the rest of it.
demo: data/protocol.tsv ## the whole pipeline on the embedded corpus, through DVC; promote its model, check two files with it
	dvc repro
	@grep -E '"demo/(eer|cllr_calibrated|tracing/accuracy|tracing/auroc)"' metrics/metrics.json
	@if grep -q '"verdict": "pass"' artifacts/decision/decision.json; then earmark promote; \
	  else earmark promote || echo "The gate refused this model, so it is not promoted; what it says of two files is shown all the same:"; fi
	earmark check data/bonafide/en-gb-scotland-max/eval6.flac artifacts/copies/spoof/griffin_lim_linear/en-gb-scotland-max-eval6.flac --html artifacts/check
	@echo "pages: artifacts/evaluation/report.html (evaluation), artifacts/check/ (evidence), artifacts/diagnosis/report.html (corpus)"
	@echo "runs and models: mlflow ui --backend-store-uri sqlite:///mlflow.db, then http://localhost:5000"

NO_DATA = "there is no data/: make demo speaks a corpus; dvc pull fetches the team's, once docs/dvc.md's remote is set; or bring your own (README)"
repro: setup ## run the stages that changed, on the data that are here
	@[ -e data ] || { echo $(NO_DATA) >&2; exit 1; }
	dvc repro

pull: setup ## fetch data and artifacts from the team's DVC remote
	@dvc remote list | grep -q . || { echo "no DVC remote is set: dvc remote add --default team s3://bucket/prefix (docs/dvc.md), or make demo" >&2; exit 1; }
	dvc pull

test: setup ## run all tests but those in containers, in three processes: many wait for servers
	pytest -n 3 -m "not containers"

test-containers: setup ## build the image and run tests in real containers (root, Debian 12)
	pytest -m containers --log-cli-level=INFO

check: setup check-lock ## lint, format, types, which wing may import which, and whether dvc.lock is of this code
	ruff check .
	ruff format --check .
	pyright
	lint-imports

check-lock: setup ## whether dvc.lock is what this code makes, without running a stage
	python .ci/check_lock.py

COMPILE_OPTIONS ?=
compile: setup ## write the Kubeflow pipelines to build/: make compile [COMPILE_OPTIONS='--preset paper --deployment own.yaml']
	python -m pipelines.compile $(COMPILE_OPTIONS)

# of docker, podman and buildah the first that works; a docker without its engine does not
ENGINE ?= $(shell if docker info >/dev/null 2>&1; then echo docker; else command -v podman || command -v buildah; fi)
IMAGE ?= earmark:dev
IMAGE_OPTIONS ?=
image: ## build the image: make image [IMAGE=name:tag] [ENGINE=podman] [IMAGE_OPTIONS=--build-arg=BASE=...]
	@[ -n "$(ENGINE)" ] || { echo "no docker engine, podman or buildah is here: install one of them" >&2; exit 1; }
	$(ENGINE) build $(IMAGE_OPTIONS) --tag $(IMAGE) \
	  --build-arg VERSION=$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml) \
	  --build-arg COMMIT=$${EARMARK_COMMIT:-$$(git describe --always --abbrev=40 --exclude='*' --dirty)} .

# what is pinned stays as it is; add LOCK=--upgrade to move on
LOCK ?=
COMPILE = uv pip compile --quiet --generate-hashes --no-emit-index-url --no-annotate --no-header $(LOCK) pyproject.toml
lock: ## pin dependencies: all in requirements.lock, those of the package alone in requirements-image.lock
	$(COMPILE) --extra dev --extra demo -o requirements.lock
	$(COMPILE) --constraint requirements.lock -o requirements-image.lock

bench: setup ## ratios against named peers, one table
	python bench/run.py

CORPUS ?= ../shared/data/realset
PART ?= all
realset: setup ## the same stages on real recordings: make realset CORPUS=folder [PART=detector|tracer|verdicts]
	python experiments/realset.py --corpus $(CORPUS) --part $(PART)
