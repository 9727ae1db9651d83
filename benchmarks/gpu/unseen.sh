#!/usr/bin/env bash
# What a quick calibration is worth on a card and a host that no profile was fitted to: measures the quick grid and full
# batches of 1 and 256, then the kept workloads at batch 64, 8 and 1; at the GPU's own limit, nothing is set on the GPU.
# Three trials, without which the worst first token cannot be judged (python -m benchmarks.first_token_noise), took 18 min on
# an H200: four starts of the server, 80 s of grid, 75 s of full batches, 6 min of workloads, 5 to 10 s around each of the 39
# runs. Leave the host alone meanwhile. The fit needs no GPU:
#   python -m benchmarks.quick --grid OUT/grid --runs OUT/workloads
# Usage: unseen.sh MODEL OUT      ENGINE=sim tries it without a GPU, TRIALS=1 is a visit of 12 minutes, WORKLOADS= leaves the
# workloads out (5 minutes in all)
set -euo pipefail
. "$(dirname "$0")/experiment.sh"
rejoule calibrate --quick --grid-only -o "$out/grid.jsonl.zst"
lanes() { "${PYTHON:-python3}" "$repo/benchmarks/gpu/uniform_trace.py" "$out/batch-$1.jsonl.zst" "answer=$1x$2x512x128"; }
lanes 1 24; lanes 256 10
# A warm-up would replay the whole grid; its first cell is one.
cold=$(served 40000); [ "$engine" = vllm ] && cold="${cold/warm_up_s = 4/warm_up = false}"
cells=$(for name in grid batch-1 batch-256; do printf '"%s/%s.jsonl.zst", ' "$(realpath "$out")" $name; done)
experiment grid "$cells" 1 29 << TOML
max_num_seqs = 256
arrivals = "burst"
options = $cold
TOML
[ "${WORKLOADS-yes}" ] || exit 0
experiment workloads "$traces" "${TRIALS:-3}" 29 << TOML
arrivals = "burst"
options = $(served 40000)
[sweep]
max_num_seqs = [64, 8, 1]
TOML
