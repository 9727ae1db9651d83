#!/usr/bin/env bash
# Replays the kept workloads with outputs ×0.5, 1, 2, 4 and prompts ×0.5, 2, each at batch 64, 8 and 1, at the GPU's own
# limit: nothing is set on the GPU. Usage: lengths.sh MODEL OUT      ENGINE=sim tries it without one, TRIALS=3 repeats it
set -euo pipefail
. "$(dirname "$0")/experiment.sh"
scales() {
    for scale in "output_scale = 0.5" "output_scale = 1.0" "output_scale = 2.0" "output_scale = 4.0" "input_scale = 0.5" "input_scale = 2.0"; do
        printf '[[cells]]\n%s\n' "$scale"
    done
}
experiment lengths "$traces" "${TRIALS:-1}" 23 << TOML
arrivals = "burst"
options = $(served ${BLOCKS:-40000})
[sweep]
max_num_seqs = [64, 8, 1]
$(scales)
TOML
