#!/usr/bin/env bash
# What the values of the weights do to joules: the 8B shape with vLLM's dummy values, zeros, normal ones, and ones
# drawn from a trained model, in turns on one server; long prompts alone and long answers alone, 3 trials.
# Usage: weights.sh MODEL TRAINED OUT      TRAINED: a folder that smollm2.py made. 13 minutes on an H200.
set -euo pipefail
model=${1:?usage: weights.sh MODEL TRAINED OUT} trained=${2:?} out=${3:?} here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
python=${PYTHON:-python3}
"$python" "$here/uniform_trace.py" "$out/prefill.jsonl.zst" ${PREFILL:-prefill=2x220x1500x4}
"$python" "$here/uniform_trace.py" "$out/decode.jsonl.zst" ${DECODE:-decode=32x6x128x512}
option="model = \"$model\", load_format = \"dummy\", worker_extension_cls = \"weight_values.WeightValues\""
option+=", max_model_len = 16384, num_gpu_blocks = 8000, cool_down_s = 2, warm_up_s = 8, idle_s = 3"
cat > "$out/weights.toml" << TOML
traces = ["prefill.jsonl.zst", "decode.jsonl.zst"]
trials = ${TRIALS:-3}
[configuration]
engine = "vllm"
max_num_seqs = 64
arrivals = "burst"
[sweep]
options = [
  { $option, weights = "dummy" },
  { $option, weights = "zeros" },
  { $option, weights = "normal" },
  { $option, weights = "drawn:$trained/model.safetensors" },
]
TOML
PYTHONPATH="$here:${PYTHONPATH:-}" "$python" -m benchmarks.gpu.staged run "$out/weights.toml" -o "$out/weights" --json > "$out/weights.json"
