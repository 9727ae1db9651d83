"""Runs that go through their trace several times."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from rejoule.replay.engines.open import open_engine
from rejoule.replay.exactness.models import Models
from rejoule.replay.exactness.splicing import Spliced
from rejoule.replay.exactness.tiers import Lengths, Rules, Tokens
from rejoule.replay.replay import replay
from rejoule.traces.loops import looped, pass_of
from rejoule.traces.run import Configuration, Run
from rejoule.traces.runs import PlannedRun
from rejoule.traces.testing import random_trace


def ran(seed: int, **knobs: Any) -> Run:
    return asyncio.run(replay(random_trace(seed), PlannedRun("r", "t", Configuration(**knobs), 0), "", open_engine))


def test_passes_follow_one_another() -> None:
    """A pass begins when the one before has ended, and waits as the trace says within itself."""
    run = ran(3, loops=3)
    spans = [(min(at), max(at)) for k in (1, 2, 3) if (at := _times(run, k))]
    assert len(spans) == 3
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    assert len(run.workflows) == 9


def test_each_pass_finds_a_cold_cache() -> None:
    """Every pass finds in the prefix cache what the first found, within the bounds of its certificate."""
    run = ran(8, loops=3)
    cached = {k: sum(c.cached_tokens or 0 for c in run.calls if pass_of(c.id) == k) for k in (1, 2, 3)}
    assert cached[1] > 0
    assert cached[1] == cached[2] == cached[3]
    assert not run.certificate.violations


def test_certificates_of_equal_work_are_equal() -> None:
    """Equal loops at another batch size do the same work; other loops do other work."""
    assert ran(5, loops=2).certificate.digest == ran(5, loops=2, max_num_seqs=1).certificate.digest
    assert ran(5, loops=2).certificate.digest != ran(5, loops=3).certificate.digest


def test_one_loop_changes_nothing() -> None:
    assert ran(5) == ran(5, loops=1)


@pytest.mark.parametrize(
    ("rules", "first"),
    [
        (Lengths(Configuration(), Models(("m",)), exact_lengths=True, cache_salt="s"), "s"),
        (Tokens(Configuration(), Models(("m",)), "logits-processor"), None),
        (Tokens(Configuration(), Models(("m",)), "trace-replay"), None),
        (Spliced(Configuration(), Models(("m",)), cache_salt="s"), "s"),
    ],
)
def test_servers_are_asked_to_keep_passes_apart(rules: Rules, first: str | None) -> None:
    """On a server, every pass has a ``cache_salt`` of its own; the first only where the run has one."""
    calls = list(looped(random_trace(1, workflows=1), 3).calls)
    salts = [{rules.ask(c).body.get("cache_salt") for c in calls if pass_of(c.id) == k} for k in (1, 2, 3)]
    assert salts[0] == {first}
    assert len(set.union(*salts)) == 3


def _times(run: Run, number: int) -> list[float]:
    calls = [t for c in run.calls if pass_of(c.id) == number for t in (c.due_s, c.end_s)]
    return calls + [t for tool in run.tools if pass_of(tool.id) == number for t in (tool.start_s, tool.end_s)]
