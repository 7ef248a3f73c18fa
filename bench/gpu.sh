#!/usr/bin/env bash
# The tests marked gpu and the benchmarks that need a GPU, without network access.
#
#     bench/gpu.sh [python] [folder of images]
#
# Rows are appended to bench/results (or $RESULTS); a table goes to standard output. Failures are listed at the end.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${1:-python3}
pictures=${2:-}
results=${RESULTS:-bench/results}
export PYTHONPATH="$PWD/src:$PWD/bench${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
failed=()
run() { # time limit in seconds, name, command ...
    local limit=$1 name=$2
    shift 2
    echo "--- $name"
    timeout "$limit" "$@" || failed+=("$name")
}
"$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' || { echo "torch finds no CUDA device"; exit 1; }
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || true
run 150 "tests marked gpu" "$python" -m pytest -q -m gpu -n "${WORKERS:-4}" -o filterwarnings=default
for width in 64 128; do
    run 90 "step, width $width" "$python" bench/step.py --device cuda --width "$width" --repetitions 5 --steps 30 --results "$results/step.jsonl"
done
run 60 "levers" "$python" bench/levers.py --device cuda --batch 128 --steps 30 --repetitions 3 --results "$results/levers.jsonl"
run 150 "the Meow run" "$python" bench/meow.py $pictures --device cuda --results "$results/meow.jsonl"
run 60 "recipes" "$python" bench/recipes.py --device cuda --results "$results/recipes.jsonl"
if [ "$("$python" -c 'import torch; print(torch.cuda.device_count())')" -gt 1 ]; then
    run 60 "several GPUs" "$python" bench/scaling.py --device cuda --results "$results/scaling.jsonl"
fi
echo "--- table"
"$python" bench/rows.py --device cuda "$results"/{step,levers,meow,recipes,scaling}.jsonl
[ ${#failed[@]} -eq 0 ] || { printf 'failed: %s\n' "${failed[@]}"; exit 1; }
