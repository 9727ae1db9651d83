"""Within a run folder, one name stands for one thing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

import rejoule
from rejoule.replay.engines.sim import DEFAULT_PROFILE
from rejoule.replay.sim.profile import profile_digest
from rejoule.replay.sim.shipped import FOLDER, load_profile
from rejoule.traces import RejouleError
from rejoule.traces.ran_on import Known, check_one_thing, contrasts, drifts
from rejoule.traces.run import Configuration, Run
from rejoule.traces.runs import load_runs
from rejoule.traces.testing import random_trace

TRACES = {"t": random_trace(3, workflows=1, vertices=4)}


def edited(path: Path, factor: float) -> str:
    """A profile whose name stays the same."""
    body = orjson.loads((FOLDER / f"{DEFAULT_PROFILE}.json").read_bytes())
    body["power"]["awake_w"] *= factor
    path.write_bytes(orjson.dumps(body))
    return str(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return rejoule.replay_traces(TRACES, tmp_path_factory.mktemp("r") / "runs", progress=False).runs[0]


def on(run: Run, said: Mapping[str, Any], **knobs: Any) -> Run:
    return replace(run, configuration=Configuration(**knobs), engine=said)


def test_an_edited_profile_is_another_one(tmp_path: Path) -> None:
    """More knobs on a profile that was edited meanwhile are refused before any run, and what was there stays."""
    knobs = Configuration(profile=edited(tmp_path / "p.json", 1.0), arrivals="burst", max_num_seqs=1)
    first = rejoule.replay_traces(TRACES, tmp_path / "runs", configuration=knobs, progress=False).runs
    edited(tmp_path / "p.json", 2.0)
    with pytest.raises(RejouleError, match="its profile's content"):
        rejoule.replay_traces(
            TRACES, tmp_path / "runs", configuration=knobs, sweep={"max_num_seqs": [1, 8]}, progress=False
        )
    assert load_runs(tmp_path / "runs").runs == first


def test_a_profile_is_known_by_what_a_simulation_depends_on() -> None:
    """Names and sources are for people: another one is not another profile; any constant is."""
    profile = load_profile(DEFAULT_PROFILE)
    told = msgspec.structs.replace(profile, name="mine", source="", sources={})
    assert profile_digest(told) == profile_digest(profile)
    other = msgspec.structs.replace(profile, serving=msgspec.structs.replace(profile.serving, block_size=32))
    assert profile_digest(other) != profile_digest(profile)


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        ({"id": "one"}, {"id": "two"}, "its model: one, then two"),
        ({"id": "m", "version": "0.29"}, {"id": "m", "version": "0.30"}, "its version"),
        ({"id": "m", "root": "/a"}, {"id": "m", "root": "/b"}, "where its model comes from"),
        ({"id": "m", "max_model_len": 4096}, {"id": "m", "max_model_len": None}, "its longest context: 4096, then not"),
        ({"id": "m", "owned_by": "vllm"}, {"id": "m", "owned_by": "sglang"}, "its kind"),
    ],
)
def test_another_server_behind_one_url_is_seen(
    before: Mapping[str, Any], after: Mapping[str, Any], what: str, run: Run
) -> None:
    """By what it says of itself; runs of both in one folder are not read, whatever their other knobs."""
    url = "http://h:1/v1"
    mixed = [on(run, before, engine=url), on(run, after, engine=url, concurrency=2)]
    with pytest.raises(RejouleError, match=what):
        check_one_thing(mixed, "runs")
    check_one_thing([mixed[0], on(run, after, engine="http://h:2/v1")], "runs")
    assert contrasts(*mixed)


def test_what_is_not_said_is_not_known() -> None:
    """A run from before servers were asked for their version agrees with any, and the first that says it is held to."""
    known, there = Known(), Configuration(engine="http://h:1/v1")
    assert known.learn("old", there, {"id": "m"}) is None
    assert known.learn("new", there, {"id": "m", "version": "1"}) is None
    assert known.learn("newer", there, {"id": "m", "version": "2"}) is not None


def test_versions_that_differ_are_told(run: Run) -> None:
    """Of runs by two ReJoules, or of which one does not say by which, a reader is told."""
    assert not drifts([run, run])
    newer = replace(run, engine={**run.engine, "rejoule": "9.9"})
    assert any("ReJoule's version is" in drift and "9.9" in drift for drift in drifts([run, newer]))
    silent = replace(run, engine={k: v for k, v in run.engine.items() if k != "rejoule"})
    assert any("not known of 1 of 2" in drift for drift in drifts([run, silent]))
