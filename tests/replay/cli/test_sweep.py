"""Any knob and any option of the engine is swept, on the command line and in files, and conflicts are refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rejoule.replay.cli.experiment_file import read
from rejoule.replay.cli.sweep import sweeps
from rejoule.replay.plan import configurations
from rejoule.traces import RejouleError
from rejoule.traces.run import Configuration


@pytest.mark.parametrize(
    ("word", "name", "values"),
    [
        ("max-num-seqs=1,8,none", "max_num_seqs", [1, 8, None]),
        ("power-cap=300,500.5", "power_cap_w", [300, 500.5]),
        ("edges=barrier,trigger", "edge_set", ["barrier", "trigger"]),
        ("enforce_eager=false,true", "options.enforce_eager", [False, True]),
        ("kv-cache-dtype=auto,fp8", "options.kv_cache_dtype", ["auto", "fp8"]),
        ("quantization=none,default", "options.quantization", ["none", None]),
        ("cudagraph_capture_sizes=[1,2],[4]", "options.cudagraph_capture_sizes", [[1, 2], [4]]),
        ("options.seed=1,2", "options.seed", [1, 2]),
        ("seed=1,2", "seed", [1, 2]),
    ],
)
def test_values_are_json_where_they_parse(word: str, name: str, values: list[Any]) -> None:
    """A knob by its name or its option's, else an option of the engine; the rest is text."""
    assert sweeps([word], ()) == {name: values}


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["enforce_eager"], "is not KEY=V1,V2"),
        (["enforce_eager="], "is not KEY=V1,V2"),
        (["enforce_eager=true", "enforce-eager=false"], "swept twice"),
        (["power_cap=300", "power_cap_w=500"], "swept twice"),
        (["power_cap=300"], "an option of its own"),
        (["trials=1,2"], "cannot be swept"),
        (["options=1"], "cannot be swept"),
    ],
)
def test_conflicts_on_the_command_line_are_refused(words: Sequence[str], what: str) -> None:
    with pytest.raises(RejouleError, match=what):
        sweeps(words, {"power_cap_w"} if words == ["power_cap=300"] else ())


def test_every_combination_is_made_once_and_a_default_is_no_option() -> None:
    sweep: dict[str, list[Any]] = {"max_num_seqs": [1, 8, 8], "options.enforce_eager": [None, True]}
    found = configurations(Configuration(options={"num_gpu_blocks": 99}), sweep)
    assert [(c.max_num_seqs, dict(c.options)) for c in found] == [
        (n, {"num_gpu_blocks": 99} | eager) for n in (1, 8) for eager in ({}, {"enforce_eager": True})
    ]


def test_an_option_that_is_set_is_not_swept() -> None:
    with pytest.raises(RejouleError, match="enforce_eager is both set and swept"):
        configurations(Configuration(options={"enforce_eager": True}), {"options.enforce_eager": [True]})
    with pytest.raises(RejouleError, match="both swept"):
        configurations({}, {"options": [{}], "options.enforce_eager": [True]})


@pytest.mark.parametrize(
    "sweep",
    [
        "[sweep.options]\nenforce_eager = [true, false]",
        '[sweep]\n"options.enforce_eager" = [true, false]',
        "[sweep]\noptions = [{enforce_eager = true, warm_up = false}, {enforce_eager = false, warm_up = false}]",
    ],
)
def test_a_file_sweeps_options_by_name_or_whole(sweep: str, tmp_path: Path) -> None:
    """A table of options, a dotted name, and a list of whole sets of options mean the same."""
    held = "" if "warm_up" in sweep else "[configuration.options]\nwarm_up = false\n"
    path = tmp_path / "e.toml"
    path.write_text(f'traces = ["t.jsonl"]\n{held}{sweep}\n')
    found = [dict(c.options) for c in read(path).configurations]
    assert found == [{"enforce_eager": eager, "warm_up": False} for eager in (True, False)]


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("[configuration.options]\nstep_tap = true\n[sweep.options]\nstep_tap = [true]", "both set and swept"),
        ('[sweep]\n"options.enforce_eager" = [true]\n[sweep.options]\nenforce_eager = [true]', "swept twice"),
        ("[sweep.options]\nenforce_eager = true", r"write options.enforce_eager = \[True\]"),
        ("[sweep.options]\nenforce_eager = []", "empty list"),
        ("[configuration]\nloops = 2\n[sweep]\nloops = [1, 2]", "loops is both set and swept"),
    ],
)
def test_conflicts_in_a_file_are_refused(body: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / "e.toml"
    path.write_text(f'traces = ["t.jsonl"]\n{body}\n')
    with pytest.raises(RejouleError, match=what):
        read(path)
