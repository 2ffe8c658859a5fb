# `make help` lists what there is. Nothing is needed beforehand but Python >= 3.11, git and make.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# No telemetry, from any tool.
export DVC_NO_ANALYTICS := 1
export DO_NOT_TRACK := true
export MLFLOW_DISABLE_TELEMETRY := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export GX_ANALYTICS_ENABLED := false
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: help install repro test check deps experiment ablation ui deploy doctor gc remote check-remote bench-model \
	bench-ingest bench-train bench-label bench-evaluate bench-codecs bench-plan bench-serve soak clean lock

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed  ## Create .venv and install what requirements.lock pins

$(VENV)/.installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed, this is " + sys.version.split()[0] + "; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --no-deps --disable-pip-version-check -r requirements.lock
	@touch $@

repro: install .work/.params_checked  ## Rebuild what changed, from raw data to the report
	dvc repro || { $(RUN) -m stages.report reports/index.html data reports --partial; exit 1; }
	@echo "Report: file://$(CURDIR)/reports/index.html"

# Imports every stage, so only when something changed.
.work/.params_checked: params.yaml $(wildcard stages/*.py) | install
	@$(RUN) -m stages.sections
	@mkdir -p .work && touch $@

test: install  ## All tests but long fault campaigns (`soak`) and those that need a GPU
	OMP_NUM_THREADS=1 pytest -m "not gpu and not soak" -q -n auto --maxprocesses 8 --dist worksteal

check: install  ## Format, lint, strict types, import contracts, code dependencies of dvc.yaml
	ruff format --check .
	ruff check .
	mypy
	lint-imports
	$(RUN) -m stages.dependencies --check

deps: install  ## Write the code dependencies of every stage into dvc.yaml
	$(RUN) -m stages.dependencies

experiment: install  ## Run a parameters file: make experiment E=experiments/x.yaml; of an ablation V=<variant>
	@test -n "$(E)" || { echo "make experiment: expected E=experiments/<name>.yaml, got none"; exit 2; }
	$(RUN) -m stages.experiment $(E) $(V)
	dvc repro
	dvc exp save --force --name $(basename $(notdir $(E)))$(addprefix -,$(V))  # replaces the one of that name

ablation: install  ## Run an ablation over seeds and print its table: make ablation E=experiments/ablations/x.yaml SEEDS=3
	@test -n "$(E)" || { echo "make ablation: expected E=experiments/ablations/<name>.yaml, got none"; exit 2; }
	$(RUN) -m stages.ablation $(E) --seeds $(or $(SEEDS),3)
	$(RUN) -m stages.compare $(E) --seeds $(or $(SEEDS),3)

ui: install  ## MLflow, Prefect and the report on localhost; Enter stops them
	$(RUN) -m flows.ui

deploy: install  ## Put pools, limits, schedules and automations on the server at PREFECT_API_URL
	$(RUN) -m flows.deploy $(DEPLOY)

doctor: install  ## Versions, devices, disk, and what a rebuild would run
	$(RUN) -m stages.doctor

gc: install  ## Remove work, cached data and locked stages that nothing refers to any more
	$(RUN) -m stages.collect_garbage

remote: install  ## Share results by S3: make remote URL=s3://bucket/prefix [ENDPOINT=https://...]
	@test -n "$(URL)" || { echo "make remote: expected URL=s3://<bucket>/<prefix>, got none"; exit 2; }
	dvc remote add --quiet --default --force team $(URL)
	dvc remote modify team verify true  # or DVC takes what is damaged as what it should be
	$(if $(ENDPOINT),dvc remote modify team endpointurl $(ENDPOINT))

check-remote: install  ## What is missing or damaged in the remote; REMOTE="--quick" or "--repair"
	@$(RUN) -m stages.check_remote $(REMOTE)

bench-model: install  ## Latency of a model in every way to run it, against Transformers'; BENCH="--help"
	$(RUN) -m benchmarks.model $(BENCH)

bench-ingest: install  ## Rate and memory of ingest, against Pillow alone; BENCH="--help"
	$(RUN) -m benchmarks.ingest $(BENCH)

bench-train: install  ## Rate of a training and how long it waits for data, against a plain loop; BENCH="--help"
	$(RUN) -m benchmarks.training $(BENCH)

bench-label: install  ## Rate of labelling from JPEG to shard, against the bare model; BENCH="--help"
	$(RUN) -m benchmarks.labelling $(BENCH)

bench-evaluate: install  ## Time of an evaluation against its model alone; BENCH="--num-images 40"
	$(RUN) -m benchmarks.evaluation $(BENCH)

bench-codecs: install  ## Size, speed and error of the codecs of labels, against 16-bit PNG; BENCH="--help"
	$(RUN) -m benchmarks.codecs $(BENCH)

bench-serve: install  ## Rate, latency and memory of a served model, and hostile requests; BENCH="<model>@champion"
	$(RUN) -m benchmarks.serving $(BENCH)

bench-plan: install  ## Time to plan, find, describe and publish thousands of shards; BENCH="--help"
	$(RUN) -m benchmarks.labelling_plan $(BENCH)

soak: install  ## Long fault campaigns; SOAK="--seeds 100" sets their size
	pytest -m soak tests/soak -q $(SOAK)

lock:  ## Resolve requirements.lock anew, in one go (needs uv)
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
		--generate-hashes --no-header --no-annotate --no-emit-index-url -o requirements.lock

clean:  ## Remove outputs and unfinished work; the cache and the environment stay
	rm -rf data models reports .work
