"""Whatever a server answers, record and replay end in what can be written down, or in a RejouleError."""

from __future__ import annotations

from contextlib import suppress

import pytest
from benchmarks.spoilt.servers import BROKEN, MODELS, Broken, serving

from rejoule.graphs.capture.server import probe
from rejoule.replay.engine import Engine
from rejoule.replay.engines.http import HttpEngine
from rejoule.replay.replay import replay
from rejoule.traces import RejouleError, Trace
from rejoule.traces.model import Header
from rejoule.traces.run import Configuration
from rejoule.traces.runs import PlannedRun
from rejoule.traces.seal import sealed
from rejoule.traces.store import encode
from rejoule.traces.testing import random_trace

TRACE = random_trace(3, workflows=1, vertices=3)
LIMITS = {"silence_timeout_s": 0.3, "first_token_timeout_s": 0.3, "call_timeout_s": 2.0}


def named(kind: Broken) -> str:
    return kind.name


@pytest.mark.parametrize("kind", [kind for kind in BROKEN if kind.models is not MODELS], ids=named)
async def test_whatever_a_server_says_of_itself(kind: Broken) -> None:
    """What is taken of it fits into a trace's header and into a run."""
    async with serving(kind) as url:
        with suppress(RejouleError):
            encode(Header("g", "m", (await probe(url)).description))
        with suppress(RejouleError):
            engine = await HttpEngine.connect(Configuration(engine=url), TRACE)
            sealed(engine.identity)
            await engine.close()


@pytest.mark.parametrize("kind", [kind for kind in BROKEN if kind.models is MODELS], ids=named)
async def test_whatever_a_server_answers(kind: Broken) -> None:
    """A replay of it ends in a run that can be stored, its calls marked where they failed."""
    configuration = Configuration(time_scale=0, options=LIMITS)

    async def opened(_: Configuration, trace: Trace) -> Engine:
        return await HttpEngine.connect(configuration, trace, url=url)

    async with serving(kind) as url:
        run = await replay(TRACE, PlannedRun("r", "t", configuration, 0), "", opened)
    sealed(run)
