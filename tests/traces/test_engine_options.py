"""Options of engines in plain words, and what was modelled that nobody measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.analysis import builders

from rejoule.analysis.diff import compare
from rejoule.analysis.energy import error_notes, extremes, spent
from rejoule.analysis.pairing import pair
from rejoule.analysis.summary.naming import describe, label
from rejoule.replay.remarks import between_runs
from rejoule.traces.modelled import option_notes
from rejoule.traces.run import Configuration, Run
from rejoule.traces.summary import described, summary

ERRORS = {
    "knobs": ["max_num_seqs"],
    "differences": 72,
    "metrics": {},
    "options": {
        "enforce_eager": {"values": [True], "workloads": ["a"], "metrics": {}},
        "max_num_batched_tokens": {"values": [2048, 16384], "workloads": ["a"], "metrics": {}},
    },
}


def run(engine: str = "sim", **options: Any) -> Run:
    held = builders.run(builders.trace(), 8)
    configuration = replace(held.configuration, engine=engine, options=options)
    return replace(held, configuration=configuration, engine={"expected_error": ERRORS})


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("enforce_eager", {True: "no CUDA graphs", None: "CUDA graphs"}),
        ("enable_prefix_caching", {False: "prefix caching off", True: "prefix caching on"}),
        ("async_scheduling", {False: "async scheduling off"}),
        ("max_num_batched_tokens", {2048: "budget 2,048", None: "default budget"}),
        ("kv_cache_dtype", {"fp8": "KV fp8", None: "KV auto"}),
        ("num_gpu_blocks", {40000: "40,000 KV blocks"}),
        ("gpu_memory_utilization", {0.5: "50% of GPU memory"}),
        ("long_prefill_token_threshold", {512: "prompt chunks of 512", 0: "prompt chunks of any size"}),
        ("scheduling_policy", {"priority": "priority scheduling"}),
        ("quantization", {"fp8": "quantization=fp8", None: "default quantization"}),
        ("max_num_batched_tokens", {"many": "max_num_batched_tokens=many"}),
    ],
)
def test_an_option_has_plain_words(name: str, values: dict[Any, str]) -> None:
    """In tables of ``replay`` and of whatever reads runs alike."""
    for value, words in values.items():
        configuration = Configuration(options={} if value is None else {name: value})
        assert describe(configuration, [f"options.{name}"]) == words
        assert described(configuration, [name]) == words


def test_of_several_options_only_those_that_are_turned_are_named() -> None:
    """A table of options turned one at a time has short names."""
    names = ("enforce_eager", "async_scheduling", "kv_cache_dtype")
    for options, words in (({}, "default options"), ({"async_scheduling": False}, "async scheduling off")):
        for told in (
            describe(Configuration(options=options), ["max_num_seqs", *(f"options.{n}" for n in names)]),
            described(Configuration(max_num_seqs=None, options=options), names),
        ):
            assert told.removeprefix("default batch, ") == words
    assert label("options.enforce_eager") == "CUDA graphs"
    assert describe(Configuration(engine="http://x"), ["options.enforce_eager"]) == "as the server was started"


@pytest.mark.parametrize(
    ("options", "notes"),
    [
        ({"enforce_eager": True, "num_gpu_blocks": 7}, []),
        ({"enforce_eager": False, "kv_cache_dtype": "auto"}, []),
        ({"max_num_batched_tokens": 4096}, []),
        ({"max_num_batched_tokens": 512}, ["modelled, and never held against a measured run: budget 512"]),
        ({"kv_cache_dtype": "fp8"}, ["modelled, and never held against a measured run: KV fp8"]),
        (
            {"enforce_eager": True, "max_num_batched_tokens": 2048},
            ["modelled, and held against measured runs one at a time, not together: budget 2,048 with no CUDA graphs"],
        ),
    ],
)
def test_what_nobody_measured_is_said(options: dict[str, Any], notes: list[str]) -> None:
    """Beside the runs and in their JSON; of measured runs there is nothing to say."""
    made = run(**options)
    assert list(option_notes([made, made])) == notes
    assert summary(made)["modelled_options"] == notes
    assert [note for note in between_runs([made]) if note.startswith("modelled")] == notes
    assert list(option_notes([run("vllm", **options)])) == []


def test_what_was_modelled_unseen_is_said_where_configurations_are_compared() -> None:
    """Beside tables of several configurations, too, even if all of them have the option."""
    runs = [run(kv_cache_dtype="fp8"), run(kv_cache_dtype="fp8")]
    runs[1] = replace(runs[1], configuration=replace(runs[1].configuration, max_num_seqs=64))
    words = "modelled, and never held against a measured run: KV fp8"
    assert words in extremes(spent(runs), runs).notes
    assert words in error_notes(runs)
    assert any(words in note for note in compare(pair(runs[:1], runs[1:])).notes)
