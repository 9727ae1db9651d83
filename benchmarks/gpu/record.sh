#!/usr/bin/env bash
# Records the four workloads from one vLLM on this machine's GPU.
# Usage: record.sh MODEL OUT      MODEL may have dummy weights: its answers then obey the schemas and mean nothing.
set -euo pipefail
model=${1:?usage: record.sh MODEL OUT} out=${2:?usage: record.sh MODEL OUT}
python=${REJOULE_VLLM_PYTHON:-python3} port=${PORT:-8123}
mkdir -p "$out"

"$python" -m vllm.entrypoints.openai.api_server --model "$model" --load-format dummy --max-model-len 16384 \
    --host 127.0.0.1 --port "$port" --enable-prompt-tokens-details \
    --structured-outputs-config '{"backend": "xgrammar", "disable_any_whitespace": true}' > "$out/vllm.log" 2>&1 &
server=$!
trap 'kill $server 2> /dev/null; wait $server 2> /dev/null || true' EXIT
until "$python" -c "from urllib.request import urlopen; urlopen('http://127.0.0.1:$port/health')" 2> /dev/null; do kill -0 $server; sleep 1; done

sizes=(--set summary_tokens=60 --set answer_tokens=80 --set think_time_s=0.5 --set code_tokens=120
       --set requirements_tokens=100 --set comment_tokens=60 --set reply_tokens=100)
for each in sequential:6 interactive:6 agentic:4 composite:2; do
    workload=${each%:*} mine=()
    for ((i = 1; i < ${#sizes[@]}; i += 2)); do
        case $workload:${sizes[i]} in
            sequential:summary*|interactive:answer*|interactive:think*|agentic:code*|agentic:requirements*|agentic:comment*|composite:*)
                mine+=(--set "${sizes[i]}") ;;
        esac
    done
    rejoule record "$workload" -o "$out/$workload.jsonl.zst" --engine "http://127.0.0.1:$port/v1" \
        --workflows "${each#*:}" --force "${mine[@]}"
done
