"""The clients that are compared, the environments they need, and their commands."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from benchmarks.loads import Loads

ROOT = Path(__file__).parents[1]
LoadName = Literal["fan", "chain", "paced"]
ENVIRONMENTS: Final[dict[str, tuple[str, ...]]] = {
    "floor": (
        "aiohttp==3.14.5",
        "uvloop==0.23.0",
        "httpx2==2.16.2",
        "h11==0.16.0",
        "httptools==0.9.0",
        "msgspec==0.22.0",
    ),
    "aiperf": ("aiperf==0.13.0",),
    "guidellm": ("guidellm==0.8.1", "torch==2.13.0"),
}
"""GuideLLM imports torch; a pinned version lets pip take a CPU build where an index offers one."""

TOKENIZER = """
import sys
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
letters = sorted(pre_tokenizers.ByteLevel.alphabet())
made = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(["<s>", "</s>", *letters])}, merges=[]))
made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
made.decoder = decoders.ByteLevel()
PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>").save_pretrained(sys.argv[1])
"""
"""One token a byte: the other clients insist on a tokenizer, and this one needs no download."""


@dataclass(frozen=True, slots=True)
class Case:
    """One client on one load."""

    client: str
    load: LoadName
    command: tuple[str | Path, ...]
    environment: dict[str, str] = field(default_factory=dict)
    note: str = ""


def environment(name: str) -> Path:
    """The Python of a client's own environment, made if it is not there."""
    folder = ROOT / f".venv-bench-{name}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        print(f"installing {' '.join(ENVIRONMENTS[name])} into {folder.name}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        install = ["-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([str(python), *install, *ENVIRONMENTS[name]], check=True)
        (folder / "ready").touch()
    return python


def own(url: str, loads: Loads, work: Path, floor: Path) -> list[Case]:
    """The floor client and ReJoule."""
    program = Path(__file__).with_name("floor.py")
    rejoule = (Path(sys.executable).with_name("rejoule"), "replay", "--engine", url, "--json", "-o", work / "runs")
    fast = ("--arrivals", "burst", "--time-scale", "0", "--concurrency", "32")
    return [
        Case("floor", "fan", (floor, program, url, "10000", "32")),
        Case("ReJoule", "fan", (*rejoule, loads.fan, *fast)),
        Case("floor", "chain", (floor, program, url, "2000", "1")),
        Case("ReJoule", "chain", (*rejoule, loads.chain)),
        Case("ReJoule", "paced", (*rejoule, loads.paced, "--arrivals", "poisson:100", "--seed", "0")),
    ]


def peers(url: str, loads: Loads, work: Path) -> list[Case]:
    """AIPerf and GuideLLM."""
    return [*_aiperf(url, loads, work), *_guidellm(url, loads, work)]


def _tokenizer(python: Path, work: Path) -> Path:
    folder = work / "tokenizer"
    if not folder.exists():
        subprocess.run([python, "-c", TOKENIZER, folder], check=True)
    return folder


def _aiperf(url: str, loads: Loads, work: Path) -> list[Case]:
    python = environment("aiperf")
    profile: tuple[str | Path, ...] = (
        python.with_name("aiperf"), "profile", "--model", "mock-model", "--url", url, "--endpoint-type", "chat",
        "--streaming", "--tokenizer", _tokenizer(python, work), "--use-server-token-count", "--ui", "none",
        "--no-gpu-telemetry", "--no-server-metrics",
    )  # fmt: skip
    cold = {"AIPERF_DATASET_MMAP_CACHE_DIR": str(work / "aiperf-cache")}
    dag = ("--custom-dataset-type", "dag_jsonl", "--concurrency")
    paced = ("--custom-dataset-type", "mooncake_trace", "--fixed-schedule", "--fixed-schedule-auto-offset")
    return [
        Case("AIPerf", "fan", (*profile, "--input-file", loads.aiperf_fan, *dag, "32"), cold, "`dag_jsonl`"),
        Case("AIPerf", "chain", (*profile, "--input-file", loads.aiperf_chain, *dag, "1"), cold, "500 turns"),
        Case("AIPerf", "paced", (*profile, "--input-file", loads.aiperf_paced, *paced), cold, "`mooncake_trace`"),
    ]


def _guidellm(url: str, loads: Loads, work: Path) -> list[Case]:
    python = environment("guidellm")
    run: tuple[str | Path, ...] = (
        python.with_name("guidellm"), "run", "--backend", f"kind=openai_http,target={url},model=mock-model",
        "--tokenizer", f"kind=huggingface_auto,model={_tokenizer(python, work)}", "--disable-console-interactive",
        "--output", f"kind=json,path={work / 'guidellm.json'}",
    )  # fmt: skip
    made = "kind=synthetic_text,prompt_tokens=48,output_tokens=8"
    fan = ("--profile", "kind=concurrent,streams=32", "--constraint", "kind=max_requests,count=5000", "--data", made)
    chain = (
        "--profile", "kind=concurrent,streams=1", "--constraint", "kind=max_requests,count=500",
        "--data", f"{made},turns=10",
    )  # fmt: skip
    source = '{"kind":"trace_synthetic","source":{"kind":"json_file","path":"' + str(loads.guidellm_paced) + '"}}'
    return [
        Case("GuideLLM", "fan", (*run, *fan), note="5,000 made-up prompts, no tree"),
        Case("GuideLLM", "chain", (*run, *chain), note="50 conversations of 10 turns"),
        Case("GuideLLM", "paced", (*run, "--profile", "kind=replay", "--data", source)),
    ]
