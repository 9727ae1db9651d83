# Sourced by scripts that run experiment files, which are called with MODEL OUT: $out, $repo, $engine, the kept workloads as
# $traces, `served BLOCKS`, the engine's options as TOML with so many KV blocks, and `experiment`.
model=${1:?usage: $(basename "$0") MODEL OUT} out=${2:?usage: $(basename "$0") MODEL OUT}
repo=$(realpath "$(dirname "$0")/../..")
mkdir -p "$out"
engine=${ENGINE:-vllm}
traces=$(for name in agentic composite interactive sequential; do printf '"%s", ' "$repo/benchmarks/h200/workloads/traces/$name.jsonl.zst"; done)
served() {
    local options="num_gpu_blocks = $1"
    if [ "$engine" = vllm ]; then
        options+=", model = \"$model\", load_format = \"dummy\", max_model_len = 16384, cool_down_s = 1, warm_up_s = 4, idle_s = 2"
    fi
    printf '{ %s }' "$options"
}
experiment() { # NAME TRACES TRIALS SEED < the rest of its file, from [configuration] on
    {
        printf 'traces = [%s]\ntrials = %s\nseed = %s\n[configuration]\nengine = "%s"\n' "$2" "$3" "$4" "$engine"
        cat
    } > "$out/$1.toml"
    rejoule run "$out/$1.toml" -o "$out/$1" --json > "$out/$1.json"
}
