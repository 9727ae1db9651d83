"""The server's state as Prometheus text, under vLLM's names."""

from __future__ import annotations

from collections.abc import Mapping

from rejoule.replay.sim.engine import StepEngine


def prometheus_text(engine: StepEngine, generated: int, finished: Mapping[str, int], model: str) -> str:
    """All metrics. ``generated`` counts tokens, ``finished`` the completed requests by why they ended."""
    scheduler = engine.scheduler
    plain = [
        ("gauge", "num_requests_running", "Requests that hold a seat.", scheduler.running),
        ("gauge", "num_requests_waiting", "Requests that wait for one.", scheduler.waiting),
        ("gauge", "kv_cache_usage_perc", "Share of KV blocks in use; 1 is all.", engine.pool.usage),
        ("counter", "prefix_cache_queries_total", "Tokens looked up in the prefix cache.", scheduler.queried_tokens),
        ("counter", "prefix_cache_hits_total", "Tokens found in the prefix cache.", scheduler.hit_tokens),
        ("counter", "prompt_tokens_total", "Prompt tokens of admitted requests.", scheduler.prompt_tokens),
        ("counter", "generation_tokens_total", "Tokens generated.", generated),
        ("counter", "num_preemptions_total", "Preemptions.", scheduler.preemptions),
    ]
    label = f'engine="0",model_name="{_escaped(model)}"'
    lines = []
    for kind, name, text, value in plain:
        full = f"vllm:{name}"
        lines += [f"# HELP {full} {text}", f"# TYPE {full} {kind}", f"{full}{{{label}}} {float(value)!r}"]
    full = "vllm:request_success_total"
    lines += [f"# HELP {full} Requests that ended.", f"# TYPE {full} counter"]
    for reason in ("stop", "length", "abort"):
        lines.append(f'{full}{{{label},finished_reason="{reason}"}} {float(finished.get(reason, 0))!r}')
    return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
