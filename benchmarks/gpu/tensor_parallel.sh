#!/usr/bin/env bash
# Two GPUs of one host that share each layer's work, exchanging with vLLM's own kernels and by NCCL alone: the calibration
# grid with short cells and the kept workloads at batch 64 on one server of each way, then the workloads with 8 calls and 1
# at a time on another, one trial each. Nothing is set on the GPUs.
# Usage: tensor_parallel.sh MODEL OUT      ENGINE=sim tries it without them
# 15 minutes: four servers, up in 150 s first and 85 s later, 80 s for a grid and 90 s for four workloads. What ran is kept
# in OUT if it is ended early, and taken up there when called again. Cut to fit: trials, batch 256, and other caps.
set -euo pipefail
. "$(dirname "$0")/experiment.sh"
# NVLink's multicast can put the GPUs of a shared host out of service, so nothing here may use it.
export NCCL_NVLS_ENABLE=0 VLLM_ALLREDUCE_USE_SYMM_MEM=0 VLLM_ALLREDUCE_USE_FLASHINFER=0 VLLM_USE_FLASHINFER_SAMPLER=0
grid=$(realpath "$out")/grid.jsonl.zst seats=64
rejoule calibrate --grid-only --max-num-seqs $seats --cell-s 0.6 -o "$grid"
measured() { # NAME TRACES SEED OPTIONS < what else is swept
    local options=${4% \}}", tensor_parallel_size = 2"
    experiment "$1" "$2" "${TRIALS:-1}" "$3" << TOML
max_num_seqs = $seats
arrivals = "burst"
[sweep]
$(cat)
options = [
  $options },
  $options, disable_custom_all_reduce = true },
]
TOML
}
options=$(served "${BLOCKS:-40000}")
# By these seeds vLLM's own kernels come first, and the grid first on each server: a warm-up would replay the whole of it,
# and its first cell is one.
measured tp2 "\"$grid\", $traces" 321 "${options/warm_up_s = 4/warm_up = false}" < /dev/null
measured tp2-few "$traces" 7 "$options" <<< "concurrency = [8, 1]"
