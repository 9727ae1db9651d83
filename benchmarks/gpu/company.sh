#!/usr/bin/env bash
# Another process on the same GPU: what it draws while the server idles, and the same replay with and without it.
# Usage: company.sh MODEL OUT      7 minutes on an H200 with two trials
set -euo pipefail
model=${1:?usage: company.sh MODEL OUT} out=${2:?usage: company.sh MODEL OUT} here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
python=${PYTHON:-python3}
"$python" -m benchmarks.gpu.still_trace "$out/still.jsonl.zst" "${STILL_S:-14}"
"$python" "$here/uniform_trace.py" "$out/nodes.jsonl.zst" ${NODES:-summary=2x45x1500x16 summary=1x20x3000x32 chat=8x6x128x384 agent=4x6x512x256}
option="model = \"$model\", load_format = \"dummy\", max_model_len = 16384, num_gpu_blocks = 8000"
option+=", cool_down_s = 2, warm_up_s = 8, idle_s = 6"
cat > "$out/company.toml" << TOML
traces = ["still.jsonl.zst", "nodes.jsonl.zst"]
trials = ${TRIALS:-2}
seed = ${SEED:-16}
[configuration]
engine = "vllm"
max_num_seqs = 64
arrivals = "burst"
[sweep]
options = [
  { $option, company = "none" },
  { $option, company = "steady" },
  { $option, company = "bursts" },
]
TOML
"$python" -m benchmarks.gpu.staged run "$out/company.toml" -o "$out/company" --json > "$out/company.json"
