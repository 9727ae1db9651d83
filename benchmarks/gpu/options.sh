#!/usr/bin/env bash
# Replays recorded workloads in tier tokens under engine options that are each turned from their default, three trials each.
# Usage: options.sh MODEL TRACES OUT BATCH_SIZE      22 minutes on an H200 for one batch size
set -euo pipefail
model=${1:?usage: options.sh MODEL TRACES OUT BATCH_SIZE} traces=$(realpath "${2:?}") out=${3:?} size=${4:?}
mkdir -p "$out"
option="model = \"$model\", load_format = \"dummy\", max_model_len = 16384, num_gpu_blocks = ${BLOCKS:-40000}"
option+=", cool_down_s = 1, warm_up_s = 4, idle_s = 2"
names=$(cd "$traces" && for file in *.jsonl.zst; do printf '"%s/%s", ' "$traces" "$file"; done)
# Without chunks a step must hold a whole prompt: that budget is there with chunks, too, so that both can be told apart.
cat > "$out/options.toml" << TOML
traces = [$names]
trials = ${TRIALS:-3}
seed = ${SEED:-13}
[configuration]
engine = "vllm"
max_num_seqs = $size
arrivals = "burst"
[sweep]
options = [
  { $option },
  { $option, enable_prefix_caching = false },
  { $option, enforce_eager = true },
  { $option, async_scheduling = false },
  { $option, max_num_batched_tokens = 2048 },
  { $option, max_num_batched_tokens = 16384 },
  { $option, max_num_batched_tokens = 16384, enable_chunked_prefill = false },
]
TOML
rejoule run "$out/options.toml" -o "$out/options" --json > "$out/options.json"
