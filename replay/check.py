"""Whether a configuration can be run at all, before anything starts."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite
from typing import Final

from rejoule.replay.arrivals import check_arrivals
from rejoule.replay.engines.open import check_engine
from rejoule.replay.protocol.options import protocol_options
from rejoule.traces import RejouleError
from rejoule.traces.check import EDGE_SETS
from rejoule.traces.run import Configuration

POSITIVE: Final = ("max_num_seqs", "power_cap_w", "sm_clock_mhz", "input_scale", "output_scale", "concurrency")


def check_configurations(configurations: Iterable[Configuration]) -> None:
    """Raises RejouleError for the first that cannot be run."""
    for configuration in configurations:
        check_configuration(configuration)


def check_configuration(configuration: Configuration) -> None:
    """Raises RejouleError naming the knob that has no meaning, or that its engine does not have."""
    c = configuration
    for name in POSITIVE:
        value = getattr(c, name)
        if value is not None and not (isfinite(value) and value > 0):
            raise RejouleError(f"{name} = {value:g} has no meaning", "give a number above 0")
    if not (isfinite(c.time_scale) and c.time_scale >= 0):
        raise RejouleError(f"time_scale = {c.time_scale:g} has no meaning", "give 0 or a number above")
    if c.loops < 1:
        raise RejouleError(f"loops = {c.loops} has no meaning", "give 1 or more")
    if not 0 <= c.seed < 2**63:
        raise RejouleError(f"the seed {c.seed} is out of range", "give one from 0 to 2**63 - 1")
    if c.edge_set not in EDGE_SETS:
        raise RejouleError(f"no edges are called {c.edge_set!r}", f"choose one of {', '.join(EDGE_SETS)}")
    check_arrivals(c.arrivals)
    if c.engine != "sim":
        protocol_options(c.options)
    check_engine(c)
