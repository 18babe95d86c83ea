# `make` or `make help` lists what there is. Everything is set up on first use, in this folder, without root.
.DEFAULT_GOAL := help
SHELL := /bin/sh

PYTHON ?= python3
UV ?= $(shell command -v uv || echo .venv-uv/bin/uv)
DOCKER ?= docker

PRESET ?= $(if $(filter submit schedule,$(MAKECMDGOALS)),flowers102,digits)
DATA ?=
RUN_NAME ?=
RUNNER ?= subprocess
SET ?=
OVERLAY ?= dev
IMAGE ?=
IMAGES ?=
TAG ?=
PUSH ?=
CLUSTER ?=
BASE ?=
BUILD_FLAGS ?=
ENDPOINT ?= $(value KFP_ENDPOINT)
RUN ?=
RETRIES ?= 0
CRON ?=
SCHEDULE_NAME ?=
PROBE ?=
TESTS ?=
SERVE ?=
BENCH ?=
MODEL ?= models:/ddpm-digits@champion
PORT ?=

# A variable that nobody here reads would be passed over without a word: it is a setting's, or misspelt.
VARIABLES := $(shell sed -n 's/^\([A-Z_]*\) ?=.*/\1/p' $(firstword $(MAKEFILE_LIST)))
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
STRANGE := $(firstword $(filter-out $(VARIABLES),$(GIVEN)))
ifneq ($(STRANGE),)
SETTING := $(shell echo '$(subst ','\'',$(STRANGE))' | tr A-Z- a-z_)
IS_ONE := $(shell grep -q '^| `$(subst ','\'',$(SETTING))` |' docs/settings.md && echo yes)
MEANT := $(SETTING)=$(if $(findstring @,$(value $(STRANGE)))$(findstring ://,$(value $(STRANGE))),…,$(value $(STRANGE)))
$(error $(STRANGE): make has no such variable; $(if $(IS_ONE),write SET='$(MEANT)',there are $(VARIABLES), and settings go into SET, as in SET='epochs=60'))
endif

# A stamp is touched only when all before it has worked. Without one, .venv is made anew: what a cut-off installation
# leaves looks installed, and is not.
VENV := .venv/.installed
DEV := .venv/.installed-dev
# What a person wrote reaches the commands untouched: through the environment, with no look at its dollars and quotes.
WRITTEN := SET PRESET DATA RUN_NAME RUNNER ENDPOINT EXPERIMENT IMAGE CLUSTER MODEL RUN RETRIES CRON SCHEDULE_NAME OVERLAY
$(foreach name,$(WRITTEN),$(if $(filter command environment,$(firstword $(origin $(name)))),$(eval override $(name) := $$(value $(name)))))
# These are several words each, which the shell reads and make does not. What it would take for the end of the command
# is refused: the rest would be passed over without a word.
READ_BY_SHELL := SERVE TESTS BENCH BUILD_FLAGS IMAGES
override SERVE := $(value SERVE)
define NEWLINE


endef
HASH := \#
$(foreach name,$(READ_BY_SHELL),$(foreach sign,; & | < > ` $(HASH),$(if $(findstring $(sign),$(value $(name))),$(error $(name): '$(sign)' has no place in it; write flags and names alone, parted by spaces)))$(if $(findstring $(NEWLINE),$(value $(name))),$(error $(name): a line end has no place in it; write flags and names alone, parted by spaces)))
export $(WRITTEN)
OURS = --preset="$$PRESET" --data="$$DATA" --run-name="$$RUN_NAME" --set="$$SET"

.PHONY: help run ui models-picture dashboard-picture serve demo page dashboard test bench lock lint format types check-compiled compile image images sbom submit schedule resume doctor secrets pin clean

help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV) ## the whole pipeline here: make run [PRESET=quick] [DATA=/class/folders] [RUN_NAME=…] [RUNNER=docker] [SET='epochs=60 trials=4']
	@exec .venv/bin/python -m pipelines.local $(OURS) --runner="$$RUNNER"

ui: $(VENV) ## MLflow's pages, with all runs: make ui [PORT=5000]
	@PATH="$(CURDIR)/.venv/bin:$$PATH" exec sh mlflow/serve.sh

models-picture: $(DEV) ## MLflow's page of an experiment's models, as docs/pictures/models.png: make models-picture EXPERIMENT=digits
	@exec .venv/bin/python -m docs.pictures.models "$$EXPERIMENT"

dashboard-picture: $(DEV) ## Optuna's dashboard of a run's study, as docs/pictures/dashboard.png: make dashboard-picture RUN_NAME=…
	@exec .venv/bin/python -m docs.pictures.dashboard "$$RUN_NAME"

serve: $(VENV) ## pictures by number, a page and an API: make serve [MODEL=models:/NAME@champion] [PORT=8000] [SERVE='--canary 0.1']
	@exec .venv/bin/ddpm serve --model "$$MODEL" --port "$${PORT:-8000}" $(SERVE)

demo: $(VENV) ## the same, opened in a browser where there is one
	@exec .venv/bin/ddpm serve --model "$$MODEL" --port "$${PORT:-8000}" --browse true $(SERVE)

page: $(VENV) ## a run's page, made anew: make page [RUN_NAME=…] (otherwise the last run's)
	@exec .venv/bin/ddpm page --run-name="$$RUN_NAME"

dashboard: $(VENV) ## Optuna's dashboard of a run's study, with its trials' pictures: make dashboard [RUN_NAME=…] [PORT=8080]
	@exec .venv/bin/ddpm dashboard --run-name="$$RUN_NAME" --port "$${PORT:-8080}" --browse

secrets: ## passwords for a cluster's servers, drawn at random: make secrets [OVERLAY=aws]; then kubectl apply -k deploy/overlays/dev
	@$(PYTHON) deploy/passwords.py "$$OVERLAY"

pin: ## images by digest into an overlay: make pin [OVERLAY=aws] IMAGES='registry.example/team/ddpm-mlflow@sha256:… …'
	@$(PYTHON) deploy/pin.py "$$OVERLAY" $(IMAGES)

test: $(DEV) ## the tests, on two cores: make test [TESTS='tests/pipelines -k local']
	@OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2 $(TESTS) # a thread each: more would wait for each other's cores

bench: $(DEV) ## against the peers, in one run, into var/bench.json: make bench [BENCH='training ingest'] [SET='rounds=5']
	@exec .venv/bin/python -m bench $(BENCH) --set="$$SET"

lock: uv ## the exact versions anew, from pyproject.toml
	@$(UV) pip compile --quiet --upgrade --universal --generate-hashes --python-version 3.11 --no-header --extra pipeline --extra serve --extra dashboard pyproject.toml -o requirements.lock
	@$(UV) pip compile --quiet --upgrade --universal --generate-hashes --python-version 3.11 --no-header -c requirements.lock --group mlflow -o requirements-mlflow.lock
	@$(UV) pip compile --quiet --upgrade --universal --generate-hashes --python-version 3.11 --no-header --extra pipeline --extra serve --extra dashboard --extra bench --extra dev -c requirements.lock -c requirements-mlflow.lock pyproject.toml -o requirements-dev.lock

lint: $(DEV) ## ruff, whether all is formatted, and whether imports point down (pyproject.toml, importlinter)
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/lint-imports --no-cache

format: $(DEV) ## format all, and mend what ruff can
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

types: $(DEV) ## mypy
	@.venv/bin/mypy

compile: $(VENV) ## what is written from the settings and the code, pipelines/ddpm.yaml last: make compile [IMAGE=registry/name@sha256:…] [CLUSTER=gpu-4]
	@.venv/bin/python -m pipelines.generate
	@.venv/bin/python -m pipelines.pipeline $(if $(IMAGE),--image="$$IMAGE") --cluster="$$CLUSTER"

check-compiled: $(VENV) ## whether configure.py, docs/settings.md and ddpm.yaml are what the settings and the code say
	@.venv/bin/python -m pipelines.generate --check
	@.venv/bin/python -m pipelines.pipeline --check

image: ## the tasks' image: make image [BASE=…] [IMAGE=…] [DOCKER=…] [BUILD_FLAGS=…]
	@$(call build,task,$(or $(IMAGE),$(shell sed -n 's/^IMAGE = "\(.*\)".*/\1/p' components/__init__.py)))

images: ## the images of tasks and servers, and pushed: make images [TAG=1] [PUSH=registry.example/team] [DOCKER=buildah] [BASE=…]
	@$(foreach name,task serve mlflow tools,$(call build,$(name),$(call named,$(name))) && echo "$(call named,$(name))" &&) true
	@$(if $(PUSH),$(foreach name,task serve mlflow tools,$(DOCKER) push "$(call named,$(name))" &&)) true

# A build of docker/Containerfile: its stage, and the image's name. What is no Docker must be told to keep HEALTHCHECK.
build = DOCKER_BUILDKIT=1 $(DOCKER) build $(if $(filter docker,$(notdir $(firstword $(DOCKER)))),,--format docker) $(BUILD_FLAGS) --file docker/Containerfile --target $(1) $(if $(BASE),--build-arg "BASE=$(BASE)") --build-arg "COMMIT=$(COMMIT)" $(if $(filter task serve,$(1)),--build-arg "IMAGE=$(2)") --build-arg "VERSION=$(VERSION)" --tag "$(2)" .
named = $(PUSH:%=%/)ddpm-$(1):$(or $(TAG),$(VERSION))
COMMIT = $(shell git describe --always --abbrev=40 --dirty --match= 2>/dev/null || echo unknown)
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

sbom: $(DEV) ## what is in the images, as CycloneDX in var/sbom, from the locks
	@mkdir -p var/sbom
	@for of in task:requirements.lock mlflow:requirements-mlflow.lock; do \
	  .venv/bin/cyclonedx-py requirements --pyproject pyproject.toml --mc-type application --output-reproducible \
	    --spec-version 1.6 --output-format JSON --output-file "var/sbom/ddpm-$${of%%:*}.cdx.json" "$${of#*:}" \
	    && echo "var/sbom/ddpm-$${of%%:*}.cdx.json" || exit; \
	done

submit: $(VENV) ## the pipeline on a cluster: make submit ENDPOINT=http://… [PRESET=flowers102] [RUN_NAME=…] [IMAGE=…] [CLUSTER=gpu-4] [RETRIES=3] [SET='…']
	@exec .venv/bin/python -m pipelines.submit $(OURS) --endpoint="$$ENDPOINT" --image="$$IMAGE" --cluster="$$CLUSTER" --retries="$$RETRIES"

schedule: $(VENV) ## the same again and again: make schedule CRON='0 0 3 * * 1' ENDPOINT=http://… [PRESET=…] [DATA=…] [SCHEDULE_NAME=…] [IMAGE=…] [CLUSTER=…] [SET='…']
	@exec .venv/bin/python -m pipelines.schedule $(OURS) --cron="$$CRON" --name="$$SCHEDULE_NAME" --endpoint="$$ENDPOINT" --image="$$IMAGE" --cluster="$$CLUSTER"

resume: $(VENV) ## a run on a cluster, followed again and tried again where it failed: make resume RUN=NAME|ID [ENDPOINT=…] [RETRIES=3]
	@exec .venv/bin/python -m pipelines.resume --run="$$RUN" --endpoint="$$ENDPOINT" --retries="$$RETRIES"

doctor: $(VENV) ## a cluster looked over before a run: make doctor [ENDPOINT=http://…] [IMAGE=…] [CLUSTER=gpu-4] [OVERLAY=aws] [PROBE=1]
	@exec .venv/bin/python -m pipelines.doctor --endpoint="$$ENDPOINT" --cluster="$$CLUSTER" --image="$$IMAGE" $(if $(filter-out file,$(origin OVERLAY)),--overlay="$$OVERLAY") $(if $(filter-out 0,$(PROBE)),--probe)

clean: ## remove the environments and caches (var/, with all runs, stays)
	rm -rf .venv .venv-uv build .mypy_cache .pytest_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment: exact versions, checked against their hashes; then this project itself, editable.
define install
	@echo "setting up .venv from $(1) (once; about 5 GB)" >&2
	@{ test -e $(VENV) || test -e $(DEV); } && test -x .venv/bin/python || rm -rf .venv
	@rm -f $(VENV) $(DEV)
	@test -x .venv/bin/python || { $(check_python) && $(UV) venv --quiet --python "$(PYTHON)" .venv; }
	@$(UV) pip sync --quiet --compile-bytecode --require-hashes --python .venv/bin/python $(1)
	@$(UV) pip install --quiet --python .venv/bin/python --offline --no-deps --no-build-isolation --editable .
endef

$(VENV): requirements.lock pyproject.toml | uv
	$(call install,$(if $(wildcard $(DEV)),requirements-dev.lock,requirements.lock))
	@touch $(VENV) $(wildcard $(DEV))

# The tests' environment holds all of the other one, and stays where it was.
$(DEV): requirements-dev.lock pyproject.toml | uv
	$(call install,requirements-dev.lock)
	@touch $(VENV) $(DEV)

check_python = { "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed; say which with PYTHON=…" >&2; exit 2; }; }

.PHONY: uv
uv:
	@command -v "$(UV)" >/dev/null || { \
	  echo "setting up uv in .venv-uv" >&2; rm -rf .venv-uv; $(check_python); \
	  "$(PYTHON)" -c 'import ensurepip' 2>/dev/null || { echo "this Python has no pip for new environments; install it (on Debian and Ubuntu: apt install python3-venv), or uv" >&2; exit 2; }; \
	  "$(PYTHON)" -m venv .venv-uv && .venv-uv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock; }
