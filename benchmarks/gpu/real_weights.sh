#!/usr/bin/env bash
# The same with a small model that was trained: its own weights, these shuffled within each tensor, normal ones, zeros.
# Usage: real_weights.sh TRAINED OUT      TRAINED: a folder that smollm2.py made. 8 minutes on an H200.
set -euo pipefail
trained=${1:?usage: real_weights.sh TRAINED OUT} out=${2:?usage: real_weights.sh TRAINED OUT} here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
python=${PYTHON:-python3}
"$python" "$here/uniform_trace.py" "$out/prefill.jsonl.zst" ${PREFILL:-prefill=16x110x2000x2}
"$python" "$here/uniform_trace.py" "$out/decode.jsonl.zst" ${DECODE:-decode=64x6x128x512}
option="model = \"$trained\", worker_extension_cls = \"weight_values.WeightValues\""
option+=", max_model_len = 8192, num_gpu_blocks = 16000, cool_down_s = 2, warm_up_s = 8, idle_s = 3"
cat > "$out/real-weights.toml" << TOML
traces = ["prefill.jsonl.zst", "decode.jsonl.zst"]
trials = ${TRIALS:-3}
[configuration]
engine = "vllm"
max_num_seqs = 64
arrivals = "burst"
[sweep]
options = [
  { $option, weights = "loaded" },
  { $option, weights = "shuffled" },
  { $option, weights = "normal" },
  { $option, weights = "zeros" },
]
TOML
PYTHONPATH="$here:${PYTHONPATH:-}" "$python" -m benchmarks.gpu.staged run "$out/real-weights.toml" -o "$out/real-weights" --json > "$out/real-weights.json"
