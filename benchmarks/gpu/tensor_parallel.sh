#!/usr/bin/env bash
# Two GPUs of one host that share each layer's work, exchanging by NCCL alone and with vLLM's own kernels: the calibration
# grid with short cells, then the kept workloads at batch 64, 8 and 1, one trial each. Nothing is set on the GPUs.
# Usage: tensor_parallel.sh MODEL OUT      ENGINE=sim tries it without them
# By servers that are up in 150 s first and 85 s later: 8 minutes for the grids, 15 for the workloads. What ran is kept in
# OUT if it is ended early, and taken up there when called again. Cut to fit: trials, batch 256, and other caps.
set -euo pipefail
. "$(dirname "$0")/experiment.sh"
# NVLink's multicast can put the GPUs of a shared host out of service, so nothing here may use it.
export NCCL_NVLS_ENABLE=0 VLLM_ALLREDUCE_USE_SYMM_MEM=0 VLLM_ALLREDUCE_USE_FLASHINFER=0 VLLM_USE_FLASHINFER_SAMPLER=0
grid=$(realpath "$out")/grid.jsonl.zst
rejoule calibrate --grid-only --cell-s 0.6 -o "$grid"
measured() { # NAME TRACES SIZES SEED
    local options
    options=$(served "${BLOCKS:-40000}")
    options=${options% \}}", tensor_parallel_size = 2"
    experiment "$1" "$2" "${TRIALS:-1}" "$4" << TOML
arrivals = "burst"
[sweep]
max_num_seqs = [$3]
options = [
  $options, disable_custom_all_reduce = true },
  $options },
]
TOML
}
measured tp2-grid "\"$grid\"" 256 31
measured tp2-workloads "$traces" "64, 8, 1" 37
