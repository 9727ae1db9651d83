#!/usr/bin/env bash
# Replays the kept workloads at batch 8 in waves and not, three trials each, at the GPU's own limit.
# Usage: batching.sh MODEL OUT      ENGINE=sim tries it without one
set -euo pipefail
. "$(dirname "$0")/experiment.sh"
experiment batching "$traces" "${TRIALS:-3}" 19 << TOML
max_num_seqs = 8
arrivals = "burst"
options = $(served ${BLOCKS:-40000})
[sweep]
batching = ["continuous", "static"]
TOML
