#!/usr/bin/env bash
# What only a GPU shows, in one table and under 8 minutes on one card.
#
#     scripts/gpu_check.sh [FOLDER]        writes FOLDER/table.md and a log for each step (default: runs/gpu-check)
#
# The tests marked `gpu`; the micro-batch probe and running out of memory; training speed and peak memory of each 8B
# recipe that fits; the merge of the 8B shape; whether FSDP2 computes the same with 4-bit weights. The 8B shape is a
# random checkpoint of 16 GB that is made first, in a minute or two, and stays in runs/models.
#
# A step that fails, or outruns its time, is a row that says so, and the others still run. Exit code 1 if one failed,
# 2 if there is no GPU.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PYTHON=${PYTHON:-.venv/bin/python}
folder=${1:-runs/gpu-check}
model=runs/models/llama-3.1-8b-random
recipe=configs/llama3.1-8b-qlora.yaml

if ! card=$(nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader 2>&1); then
  echo "error: no NVIDIA GPU answers here: ${card##*$'\n'}" >&2
  echo "  What to do: run it on a machine with a GPU; tunelift doctor says what is missing." >&2
  exit 2
fi
card=${card%%$'\n'*}
mkdir -p "$folder"
rows=()
failed=0

# step NAME SECONDS COMMAND...: its output goes to a log; the last line of it that begins with "figure:", or else its
# last line, is what the table shows.
step() {
  local name=$1 limit=$2 log begun result figure
  shift 2
  log="$folder/${name// /-}.log"
  begun=$SECONDS
  echo "== $name" >&2
  if timeout --kill-after=10 "$limit" "$@" >"$log" 2>&1; then
    result=ok
  else
    case $? in
      124 | 137) result="not done after $limit s" ;;
      *) result=failed ;;
    esac
    failed=1
  fi
  figure=$(grep '^figure: ' "$log" | tail -n 1 | cut -c 9-)
  [ -n "$figure" ] || figure=$(grep -v '^[[:space:]]*$' "$log" | tail -n 1 | cut -c 1-160)
  rows+=("| $name | $result | ${figure//|/\\|} | $((SECONDS - begun)) |")
  echo "   $result: $figure" >&2
}

merge() {
  # Two steps are enough of an adapter: what a merge takes does not depend on what was learnt.
  local run
  run=$("$PYTHON" -m tunelift.cli merge "$recipe" name=gpu-check "model.id=$model" model.revision=null \
    train.max_steps=2 curate.max_rows=400 | tail -n 1) || return
  "$PYTHON" -c '
import json, sys
made = json.load(open(sys.argv[1] + "/manifest.json"))
found = made["details"]
print(f"figure: {made[\"seconds\"]:.0f} s, peak {found[\"peak_memory_gib\"]:.1f} GiB, KL {found[\"kl_mean\"]:.5f}")
' "$run"
}
recipes() {
  "$PYTHON" scripts/bench_recipes.py --steps 12 --after 4 --folder "$folder/recipes" || return
  echo "figure: see the table below"
}
export PYTHON folder model recipe
export -f merge recipes

step "8B shape" 150 "$PYTHON" scripts/make_big_model.py --folder "$model"
step "probe and out of memory" 90 "$PYTHON" -m pytest -q -m gpu -k "halved or runs_out" tests/test_gpu.py
step "tests marked gpu" 180 "$PYTHON" -m pytest -q -m gpu -rs -k "not halved and not runs_out"
step "training" 150 bash -c recipes
step "merge" 120 bash -c merge
step "FSDP2 with 4-bit weights" 60 "$PYTHON" -m torch.distributed.run --standalone --nproc-per-node 1 scripts/check_fsdp2.py

{
  printf 'GPU check on %s: %s min %s s\n\n' "$card" "$((SECONDS / 60))" "$((SECONDS % 60))"
  printf '| step | result | figure | seconds |\n|---|---|---|---:|\n'
  printf '%s\n' "${rows[@]}"
  echo
  cat "$folder/recipes/training.md" 2>/dev/null
} | tee "$folder/table.md"
exit "$failed"
