# Every target makes what it needs first: `make quickstart` and `make test` work right after `git clone`.
.DEFAULT_GOAL := help
VERBS := curate train merge evaluate judge report run plan serve
.PHONY: help setup quickstart $(VERBS) compare test test-slow test-gpu test-big test-elsewhere simulate bench bench-train bench-curate check format lock schema clean

ifneq ($(filter $(VERBS),$(MAKECMDGOALS)),)
ifndef CONFIG
$(error Which config? For example: make $(firstword $(filter $(VERBS),$(MAKECMDGOALS))) CONFIG=configs/quickstart.yaml)
endif
endif

PYTHON3 ?= python3
BIN := .venv/bin
# Imports take several times as long where this is set, as it is in many container images.
unexport PYTHONDONTWRITEBYTECODE
# Two processes suit two cores and the memory of a small machine.
JOBS ?= 2

help: ## Show this
	@echo "tunelift: raw instruction data to a tuned model, with proof that it is better"
	@echo
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo '  make VERB CONFIG=configs/x.yaml [SET="key=value ..."]'
	@echo "    VERB: $(VERBS); each makes what it needs first"
	@echo
	@echo "Examples:"
	@echo "  make quickstart                                        # the whole pipeline on a CPU, in minutes"
	@echo "  make plan  CONFIG=configs/quickstart.yaml              # what would run, and why"
	@echo '  make train CONFIG=configs/quickstart.yaml SET="train.learning_rate=1e-4 seed=1"'

setup: ## Look at the machine, then install the locked packages into .venv (DEVICE=cpu|cuda overrides what is found)
	@$(PYTHON3) scripts/setup.py

quickstart: setup ## Raw data to report with a small real model, on the CPU
	@$(BIN)/python scripts/fetch_assets.py
	@$(BIN)/tunelift run configs/quickstart.yaml $(SET)

$(VERBS): setup
	@$(BIN)/tunelift $@ $(CONFIG) $(SET)

compare: setup ## Compare runs: make compare RUNS="runs/a runs/b"
	@$(if $(RUNS),,$(error Which runs? For example: make compare RUNS="runs/a-1b2c3d4e runs/b-5f6a7b8c"))
	@$(BIN)/tunelift compare $(RUNS)

test: setup ## Run the tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile $(TESTS)

test-slow: setup ## The heavy tests: faults and kills with real engines, minutes
	@$(BIN)/python -m pytest -q -m slow $(TESTS)

test-gpu: setup ## What only a GPU shows
	@$(BIN)/python -m pytest -q -m gpu -rs $(TESTS)

test-big: setup ## Llama 3.1 8B's shapes, random: 4-bit load, QLoRA steps, kill, resume; 17 GB of disk, minutes
	@$(BIN)/python -m pytest -q -s -m big $(TESTS)

test-elsewhere: setup ## Merged models of each family in transformers 4, in runs/transformers4, and in vLLM; minutes
	@$(BIN)/python -m pytest -q -m elsewhere -rs $(TESTS)

simulate: setup ## Do the verdicts err as rarely as they say? Minutes
	@$(BIN)/python scripts/simulate_verdicts.py

bench: setup ## The client and the evaluation against other tools; the machine should be idle
	@$(BIN)/python scripts/bench_client.py
	@$(BIN)/python scripts/fetch_assets.py
	@$(BIN)/python scripts/bench_evaluate.py --model runs/models/smollm2-135m-instruct

bench-train: setup ## Training: speed, MFU and memory here; on a CPU also against other tools; it should be idle
	@$(BIN)/python scripts/fetch_assets.py
	@$(BIN)/python scripts/bench_recipes.py
	@if ! nvidia-smi >/dev/null 2>&1; then $(BIN)/python scripts/bench_train.py; fi

bench-curate: setup ## Curation: the near-duplicate step against other tools, and the whole stage at two sizes; it should be idle
	@$(BIN)/python scripts/fetch_assets.py
	@$(BIN)/python scripts/bench_duplicates.py
	@$(BIN)/python scripts/bench_curate.py --times 10

check: setup ## Lint, format, types, import direction
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## Format and mend what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: setup ## Write requirements/*.txt anew from pyproject.toml (UPGRADE=1: newest releases)
	$(BIN)/python scripts/lock.py $(if $(UPGRADE),--upgrade)

schema: setup ## Write configs/schema.json, which editors check configs against
	@$(BIN)/tunelift schema > configs/schema.json.new
	@mv configs/schema.json.new configs/schema.json

clean: ## Remove caches and the environment; runs/ stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
	find src scripts tests -name __pycache__ -type d -prune -exec rm -rf {} +
