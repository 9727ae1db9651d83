#!/usr/bin/env bash
# Replays the kept workloads with outputs ×0.5, 1, 2, 4 and prompts ×0.5, 1, 2, each at batch 1, 8 and 64, three trials
# each, at the GPU's own limit: nothing is set on the GPU. Usage: lengths.sh MODEL OUT      ENGINE=sim tries it without one
set -euo pipefail
model=${1:?usage: lengths.sh MODEL OUT} out=${2:?usage: lengths.sh MODEL OUT}
repo=$(realpath "$(dirname "$0")/../..")
mkdir -p "$out"
engine=${ENGINE:-vllm}
option="num_gpu_blocks = ${BLOCKS:-40000}"
if [ "$engine" = vllm ]; then
    option+=", model = \"$model\", load_format = \"dummy\", max_model_len = 16384, cool_down_s = 1, warm_up_s = 4, idle_s = 2"
fi
names=$(for name in agentic composite interactive sequential; do printf '"%s", ' "$repo/benchmarks/h200/workloads/traces/$name.jsonl.zst"; done)
for each in "outputs output_scale 0.5,1.0,2.0,4.0" "inputs input_scale 0.5,1.0,2.0"; do
    read -r kind knob values <<< "$each"
    cat > "$out/$kind.toml" << TOML
traces = [$names]
trials = ${TRIALS:-3}
seed = 23
[configuration]
engine = "$engine"
arrivals = "burst"
options = { $option }
[sweep]
max_num_seqs = [1, 8, 64]
$knob = [$values]
TOML
    rejoule run "$out/$kind.toml" -o "$out/lengths-$kind" --json > "$out/$kind.json"
done
