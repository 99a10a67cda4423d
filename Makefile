# What a person runs here; `make help` lists it. Every target first makes the environment, .venv, where it is
# missing or its inputs changed.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The Python that .venv is made with. An active conda environment brings its own, and CXX.
PYTHON ?= python3.11

# .venv belongs to one lock, to one way of building Horovod and to this directory, whose path its scripts hold.
inputs := $(shell { cat requirements.lock; awk '/^\[/ {build = /^\[+tool\.uv/} build' pyproject.toml; pwd; } \
    | sha256sum | cut -c 1-12)
environment := .venv/made-from-$(inputs)

.PHONY: help setup lock demo kuairand kuairand-data kuairand-logs aliccp test test-slow check clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / {printf "make %-22s %s\n", $$1, $$2}' Makefile

setup: $(environment) ## makes .venv from requirements.lock; every other target does it first

# Anew each time, so that nothing of an interrupted set-up stays; uv's cache keeps what was fetched and compiled.
# uv installs itself with the rest, and what builds Horovod comes from the same lock.
$(environment):
	@$(check-machine)
	rm -rf .venv
	"$(PYTHON)" -m venv .venv
	awk '/^[a-z]/ {is_uv = /^uv==/} is_uv' requirements.lock > .venv/uv.txt
	.venv/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r .venv/uv.txt
	env -u MAKEFLAGS .venv/bin/uv pip sync --python .venv/bin/python --require-hashes \
	    --build-constraints requirements.lock --require-build-hashes requirements.lock
	pwd > .venv/lib/python3.11/site-packages/esmm.pth
	touch $@

# Each stops make with one line. Horovod looks up the host's own name, and crashes where it has no address.
define check-machine
$(if $(version),,$(error $(PYTHON): expected Python 3.11, found none (apt-get install python3.11)))
$(if $(filter 3.11,$(version)),,$(error $(PYTHON): expected Python 3.11, found $(version)))
$(if $(has-venv),,$(error $(PYTHON): expected the module ensurepip, found none (apt-get install python3.11-venv)))
$(if $(has-compiler),,$(error $(CXX): expected a C++ compiler, found none (apt-get install g++)))
$(if $(has-addresses),,$(error /etc/hosts: expected localhost and this host's own name, found no address of theirs))
endef
version = $(shell "$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2> /dev/null)
has-venv = $(shell "$(PYTHON)" -c 'import venv, ensurepip; print("yes")' 2> /dev/null)
has-compiler = $(shell command -v $(firstword $(CXX)))
has-addresses = $(shell "$(PYTHON)" -c 'import socket as s; \
    s.getaddrinfo("localhost", 0), s.getaddrinfo(s.gethostname(), 0), print("yes")' 2> /dev/null)

lock: ## writes requirements.lock from pyproject.toml; `make lock UPGRADE=--upgrade` moves what is not pinned
	test -x .venv/bin/uv || $(MAKE) setup
	.venv/bin/uv pip compile pyproject.toml --group dev --generate-hashes --python-version 3.11 \
	    --custom-compile-command "make lock" --quiet $(UPGRADE) -o requirements.lock

demo: setup ## the whole job on a simulated market, into build/demo
	./spark-submit.sh jobs/simulate_logs.py --config conf/demo.yaml
	./spark-submit.sh jobs/build_samples.py --config conf/demo.yaml --from 2026-03-24 --to 2026-03-31
	./spark-submit.sh jobs/train.py --config conf/demo.yaml --from 2026-03-24 --to 2026-03-30
	./spark-submit.sh jobs/evaluate.py --config conf/demo.yaml --from 2026-03-31 --to 2026-03-31 --promote
	./spark-submit.sh jobs/score.py --config conf/demo.yaml --date 2026-04-01

# Days of Asia/Shanghai: the first and the last of the logs, and the last to train on. Scores are for the next.
kuairand-days = $(file < build/kuairand/days)
KUAIRAND_FROM ?= $(firstword $(kuairand-days))
KUAIRAND_LAST ?= $(lastword $(kuairand-days))
KUAIRAND_TRAIN_TO ?= $(shell date -I -d "$(KUAIRAND_LAST) - 1 day")

kuairand: kuairand-logs ## the same on KuaiRand's files: make kuairand DATA=FOLDER
	./spark-submit.sh jobs/build_samples.py --config conf/kuairand.yaml --allow-immature \
	    --from $(KUAIRAND_FROM) --to $(KUAIRAND_LAST)
	./spark-submit.sh jobs/train.py --config conf/kuairand.yaml --from $(KUAIRAND_FROM) --to $(KUAIRAND_TRAIN_TO)
	./spark-submit.sh jobs/evaluate.py --config conf/kuairand.yaml --from $(KUAIRAND_LAST) --to $(KUAIRAND_LAST) --promote
	./spark-submit.sh jobs/score.py --config conf/kuairand.yaml --date $(shell date -I -d "$(KUAIRAND_LAST) + 1 day")

# On its own, so that its days are there when the lines above are made.
kuairand-logs: kuairand-data setup
	./spark-submit.sh jobs/import_kuairand.py --config conf/kuairand.yaml --data "$(DATA)" --days build/kuairand/days

kuairand-data:
	@$(if $(DATA),,$(error DATA: expected the folder of KuaiRand's files, make kuairand DATA=FOLDER, found none))

# The paper's table: each model on each seed, a run of its own in build/aliccp/runs/MODEL-SEED. A run whose evaluation
# is there is not done again.
VARIANTS ?= base division esmm_ns esmm
SEEDS ?= 1 2 3 4 5 6 7 8 9 10
aliccp-evaluations = $(foreach variant,$(VARIANTS),$(SEEDS:%=build/aliccp/runs/$(variant)-%/evaluation.json))
aliccp-settings = --config conf/aliccp.yaml --set model.variant=$(firstword $(subst -, ,$*)) \
    --set seed=$(lastword $(subst -, ,$*)) --set training.directory=$(@D)/training \
    --set scoring.models=$(@D)/models --set evaluation.directory=$(@D)

aliccp: $(aliccp-evaluations) ## the paper's table from Ali-CCP's files: make aliccp DATA=FOLDER
	.venv/bin/python -m benchmarks.aliccp_table build/aliccp/runs

build/aliccp/runs/%/evaluation.json: | build/aliccp/imported
	./spark-submit.sh jobs/train.py $(aliccp-settings) --from 2018-01-01 --to 2018-01-01
	./spark-submit.sh jobs/evaluate.py $(aliccp-settings) --from 2018-01-02 --to 2018-01-02
	rm -r $(@D)/training

build/aliccp/imported: | $(environment)
	@$(if $(DATA),,$(error DATA: expected the folder of Ali-CCP's files, make aliccp DATA=FOLDER, found none))
	./spark-submit.sh --conf spark.sql.shuffle.partitions=512 jobs/import_aliccp.py --config conf/aliccp.yaml \
	    --data "$(DATA)"
	touch $@

# Tests open sessions without spark-submit.sh: this is where Spark finds its Java then.
test test-slow: export SPARK_CONF_DIR := $(CURDIR)/conf/spark

# A test's JVM lives for seconds or runs each of its queries once: code that the second compiler would make comes too
# late. A third less time.
first-compiler := -XX:TieredStopAtLevel=1
test test-slow: export SPARK_SUBMIT_OPTS := $(first-compiler) -Dspark.executor.defaultJavaOptions=$(first-compiler)

# Tests run beside each other: half of the time is waiting for Spark and for processes to start. Each worker keeps a
# Spark session, of some 2 GiB, and begins with files of its own; who has no more takes some of the other's.
WORKERS ?= 2

test: setup ## the tests, all but the slow ones
	.venv/bin/pytest -m "not slow" --numprocesses $(WORKERS) --dist worksteal

test-slow: setup ## clusters, kills and large tables
	.venv/bin/pytest -m slow --numprocesses $(WORKERS) --dist worksteal

check: setup ## ruff, mypy, sqlfluff, import-linter
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/sqlfluff lint sql
	.venv/bin/lint-imports

bench-%: setup benchmarks/bench_%.py ## one benchmark, into build/bench: make bench-pipeline
	.venv/bin/python -m benchmarks.bench_$*

clean: ## removes what runs, tests and checks left; .venv stays
	rm -rf build .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
