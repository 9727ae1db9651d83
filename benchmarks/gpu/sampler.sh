#!/usr/bin/env bash
# What sampling the sensors costs in throughput: the same calls with the sampler and without, in turns, on one server.
# On an H200 a run takes 11 s, and three trials of each about 100 s beside the server's start.
# Usage: sampler.sh MODEL OUT
set -euo pipefail
model=${1:?usage: sampler.sh MODEL OUT} out=${2:?usage: sampler.sh MODEL OUT} here=$(dirname "$0")
mkdir -p "$out"
"${PYTHON:-python3}" "$here/uniform_trace.py" "$out/uniform.jsonl.zst" answer=32x10x512x128
cat > "$out/sampler.toml" << TOML
traces = ["uniform.jsonl.zst"]
trials = ${TRIALS:-3}
[configuration]
engine = "vllm"
max_num_seqs = 32
arrivals = "burst"
[sweep]
options = [
  { model = "$model", load_format = "dummy", max_model_len = 16384, num_gpu_blocks = 40000, cool_down_s = 3, warm_up_s = 8, idle_s = 0, sampler = true },
  { model = "$model", load_format = "dummy", max_model_len = 16384, num_gpu_blocks = 40000, cool_down_s = 3, warm_up_s = 8, idle_s = 0, sampler = false },
]
TOML
rejoule run "$out/sampler.toml" -o "$out/sampler" --json > "$out/sampler.json"
