# The front door. Each target calls one script; what is given on the command line reaches it through the environment.
.DEFAULT_GOAL := help
.PHONY: help setup smoke demo data inspect convert train eval report build-images push-images secrets
.PHONY: submit-convert submit-train submit-ddp submit-train-eval status logs cancel run-local test bench lint clean lock

# Scripts take generic names such as NAME or CONFIG from the command line only (scripts/common.sh).
export GIVEN := $(sort $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name))))
ifneq ($(GIVEN),)
  unread := $(shell scripts/check_variables.sh $(or $(MAKECMDGOALS),help) -- $(GIVEN))
  ifneq ($(unread),)
    $(error $(unread))
  endif
endif

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Create .venv from the lock files (PYTHON=python3.12); does nothing when it is there
	@scripts/setup.sh

smoke: setup ## Train, evaluate and report on a small demo dataset, in outputs/smoke (3 minutes on 2 cores)
	@scripts/smoke.sh

demo: setup ## Write the demo dataset: a UR10e reaching, LeRobot v3.0 (OUTPUT=outputs/demo)
	@scripts/demo.sh

data: setup ## Download the data from Azure Blob or LOCALPATH to outputs/data, recordings converted (SOURCE= DEST=)
	@scripts/prepare.sh

inspect: setup ## Show what a ROS 2 recording holds, and propose a configuration for it (BAGS=DIR)
	@scripts/inspect.sh

convert: setup ## Convert ROS 2 recordings to a dataset: BAGS=DIR (OUTPUT= CONVERT_CONFIG= STRICT=1 RECOVER=1 WORKERS=N)
	@scripts/convert.sh

train: setup ## Train: DATA=DIR[:DIR] (CONFIG= STEPS= OUTPUT= GPUS=N RESUME=1 OVERRIDES="training.lr=5e-5 ...")
	@scripts/train.sh

eval: setup ## Evaluate offline: CHECKPOINT=DIR DATA=DIR (OUTPUT= EPISODES="0 1")
	@scripts/eval.sh

report: setup ## Turn training and evaluation into one page (TRAIN= EVAL= REPORT=outputs/report.html)
	@scripts/report.sh

build-images: ## Build both images (IMAGE=train|eval TAG= BASE_IMAGE= DOCKER=docker|podman|buildah)
	@scripts/build_images.sh

push-images: ## Push the images (REGISTRY=HOST[:PORT][/PATH] TAG= IMAGE= DOCKER=)
	@scripts/push_images.sh

secrets: setup ## Store what secrets.env holds as OSMO credentials (DRY_RUN=1)
	@scripts/secrets.sh

submit-convert submit-train submit-ddp submit-train-eval: submit-%: setup
	@WORKFLOW=$* scripts/submit.sh

submit-convert: ## Convert recordings in blob to a dataset in blob, on OSMO, without a GPU (SOURCE= DATASET=)
submit-train: ## Train on OSMO, on one GPU (SOURCE= STEPS= WATCH=1 DRY_RUN=1; all: scripts/submit.sh --help)
submit-ddp: ## Train on OSMO, on several GPUs (GPUS=4 GPUS_PER_NODE=1 RESUME_FROM=URL)
submit-train-eval: ## Train on OSMO, then evaluate (GPUS=1)

status: ## Show a workflow's state (ID=)
	@scripts/workflow.sh status

logs: ## Follow a workflow's logs to its end (ID=)
	@scripts/workflow.sh logs

cancel: ## End a workflow (ID=)
	@scripts/workflow.sh cancel

run-local: setup ## Rehearse a workflow on this machine (WORKFLOW=ddp GPUS=2 LOCALPATH=outputs/demo DRY_RUN=1)
	@scripts/run_local.sh

test: ## Run all checks and tests (FAST=1 leaves the slow ones out)
	@scripts/test.sh

bench: ## Measure what fetch.sh adds to plain azcopy, and converting against encoding alone (ROUNDS=3)
	@scripts/bench.sh
	@scripts/bench_convert.sh

lint: ## Run the checks alone: ruff, mypy, shellcheck, shfmt, hadolint
	@scripts/lint.sh

lock: ## Regenerate the lock files (UPGRADE=1 takes newer versions)
	@scripts/lock.sh

clean: ## Remove .venv, the tests' npm packages and caches; outputs/ stays
	@scripts/clean.sh
