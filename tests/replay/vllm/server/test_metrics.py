"""vLLM's counters."""

from __future__ import annotations

from rejoule.replay.vllm.server.metrics import Counters, parse_cache_config, parse_counters

TEXT = """\
# HELP vllm:prompt_tokens_total Number of prefill tokens processed.
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0",model_name="a} b"} 1.5e+03
vllm:prompt_tokens_total{engine="1",model_name="a} b"} 500.0
vllm:prompt_tokens_created{engine="0",model_name="a} b"} 1.795355e+09
vllm:prefix_cache_queries_total{engine="0"} 40.0
vllm:prefix_cache_hits_total{engine="0"} 32.0
vllm:num_requests_running{engine="0"} 1.0
vllm:num_requests_waiting{engine="0"} 0.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 7.0
vllm:cache_config_info{block_size="128",engine="0",num_gpu_blocks="20",odd="a\\"b"} 1.0
"""


def test_counters_are_summed_over_engines() -> None:
    """Counters of data-parallel engines add up; a counter that is not there is None, never 0."""
    counters = parse_counters(TEXT)
    assert counters.prompt_tokens == 2000
    assert (counters.prefix_cache_queries, counters.prefix_cache_hits) == (40, 32)
    assert counters.generation_tokens is None
    assert (counters.running, counters.waiting, counters.idle) == (1, 0, False)


def test_since() -> None:
    """What was counted meanwhile is a difference; what is a state stays one."""
    before = Counters(prompt_tokens=10, preemptions=1, running=3)
    grown = Counters(prompt_tokens=25, preemptions=1, running=2, generation_tokens=5).since(before)
    assert grown == Counters(prompt_tokens=15, preemptions=0, running=2)


def test_cache_config() -> None:
    """Blocks and their size are labels of an info metric."""
    assert parse_cache_config(TEXT)["num_gpu_blocks"] == "20"
    assert parse_cache_config("") == {}
