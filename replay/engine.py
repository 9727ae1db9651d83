"""The seam between the driver and whatever answers calls. Each engine brings its own clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from rejoule.replay.exactness.cache_verdict import Caches
from rejoule.replay.policy.interface import Capacity
from rejoule.traces.model import Call
from rejoule.traces.run import CallResult, Conditions, Energy, PowerCap, Reading, Step, Tier


@dataclass(frozen=True, slots=True)
class Measured:
    """What the engine and its meters know once the last call has ended."""

    energy: Energy
    power_cap: PowerCap = field(default_factory=PowerCap)
    steps: tuple[Step, ...] | None = None
    readings: tuple[Reading, ...] | None = None
    conditions: Conditions | None = None
    engine: Mapping[str, Any] = field(default_factory=dict)
    caches: Caches | None = None
    """Its prefix caches, where they were cold at the start and everything of them is told; else ``None``."""
    violations: Sequence[str] = ()
    """What kept the run from being the experiment that it was meant to be."""


@dataclass(frozen=True, slots=True)
class Emitted:
    """So many tokens of a call's answer have come."""

    id: str
    tokens: int
    at_s: float


PowerBetween = Callable[[float, float], Awaitable[float | None]]
"""Mean power of the GPUs between two times of the monotonic clock, in watts; ``None`` if it is not known."""


@dataclass(frozen=True, slots=True)
class RealServer:
    """Where a real engine answers: a server in wall time."""

    server: str
    """Names it, and is another one each time that it is started."""
    isolates_runs: bool
    """Whether a run finds nothing in the prefix cache that an earlier engine of this server left."""
    power_w: PowerBetween | None = None
    """``None`` where power is not sampled."""
    bare_w: float | None = None
    """Idle power before the server was started."""


class Engine(Protocol):
    """Answers the calls of one run.

    ``start`` sets the clock to zero. ``send`` takes a call that was due at ``due_s`` and may go out at ``ready_s``, and
    the numbers of tokens of its answer to tell of when they have come, rising; its ``priority``, lower first, is for an
    engine whose queue goes by priorities, and ``None`` is the recorded one. ``wait`` returns once there is something
    to tell, which is a call's end or such a number of tokens, or the clock has reached ``until_s``, whichever is first;
    ``None`` is never. Its results carry whole digests.
    """

    @property
    def tier(self) -> Tier: ...

    @property
    def real_server(self) -> RealServer | None:
        """``None`` in virtual time, and of modelled servers: they need no warm-up and have no idle power to measure."""
        ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """What answers, as it says of itself before a run: the part of ``Measured.engine`` that ``ran_on`` compares."""
        ...

    @property
    def capacity(self) -> Capacity:
        """How much it can hold at a time, as far as it says."""
        ...

    async def start(self) -> None: ...

    def now_s(self) -> float: ...

    def send(
        self, call: Call, due_s: float, ready_s: float, tell_at: Sequence[int] = (), priority: int | None = None
    ) -> None: ...

    async def wait(self, until_s: float | None) -> Sequence[CallResult | Emitted]: ...

    async def finish(self) -> Measured: ...

    async def close(self) -> None: ...
