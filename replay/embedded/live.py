"""The step engine in wall time: it advances as far as the clock, and tokens go out when their step ends."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from rejoule.replay.sim.engine import StepEngine
from rejoule.replay.sim.jobs import SimRequest
from rejoule.replay.sim.records import Event


@dataclass(eq=False)
class Ticket:
    """A request in the engine: how many of its tokens are out, and what was in the cache."""

    request: SimRequest
    stream: bool
    tokens: int = 0
    cached_tokens: int = 0
    done: bool = False
    fault: Exception | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def more(self) -> None:
        """Wait for tokens: the next ones if the request streams, else all of them."""
        await self._news.wait()
        self._news.clear()
        if self.fault is not None:
            raise RuntimeError("the engine has stopped") from self.fault

    def _tell(self, tokens: int) -> None:
        self.tokens = tokens
        self._news.set()


class LiveEngine:
    """Runs a step engine, which should keep no steps, against the wall clock, ``time_scale`` engine seconds to one."""

    def __init__(self, engine: StepEngine, time_scale: float = 1.0, clock: Callable[[], float] = monotonic) -> None:
        self.engine = engine
        self._scale = time_scale
        self._clock = clock
        self._origin = clock()
        self._tickets: dict[str, Ticket] = {}
        self._streams = 0
        self._events: list[Event] = []
        self._wake = asyncio.Event()
        self._serial = 0

    @property
    def now_s(self) -> float:
        """Engine time that has passed, in seconds."""
        return (self._clock() - self._origin) * self._scale

    def unused_id(self, wished: str) -> str:
        """``wished``, or something like it while a request of that id is in the engine."""
        if wished not in self._tickets:
            return wished
        self._serial += 1
        return f"{wished}-{self._serial}"

    def submit(self, request: SimRequest, stream: bool) -> Ticket:
        """Put a request into the engine, now."""
        ticket = Ticket(request, stream)
        self.engine.add(request, self.now_s)
        self._tickets[request.id] = ticket
        self._streams += stream
        self._wake.set()
        return ticket

    def abort(self, ticket: Ticket) -> None:
        """Take a request out, if it is still in."""
        if self._tickets.pop(ticket.request.id, None) is not None:
            self._streams -= ticket.stream
            self.engine.abort(ticket.request.id)
            self._wake.set()

    def catch_up(self) -> None:
        """Let the engine reach the present, so that its energy does."""
        self._advance(self.now_s)
        self._wake.set()

    async def run(self) -> None:
        """Serve until cancelled; a fault of the engine is raised to everyone who waits."""
        try:
            await self._run()
        except Exception as fault:
            for ticket in self._tickets.values():
                ticket.fault = fault
                ticket._tell(ticket.tokens)
            raise

    async def _run(self) -> None:
        engine = self.engine
        while True:
            if self._tickets:
                # The step that begins now is taken whole; its tokens are told when they would be with the client.
                self._advance(max(self.now_s, math.nextafter(engine.now_s, math.inf)))
                await self._sleep(engine.told_s)
            self._deliver()
            if not self._tickets:
                await self._pause(None)
            else:
                await self._pause(engine.now_s if self._streams else engine.next_event_s)

    def _advance(self, until_s: float) -> None:
        while self.engine.now_s < until_s:
            self._events += self.engine.advance(until_s)

    def _deliver(self) -> None:
        events, self._events = self._events, []
        for event in events:
            ticket = self._tickets.get(event.id)
            if ticket is None:
                continue
            ticket.cached_tokens = event.cached_tokens
            if event.kind == "finished":
                del self._tickets[event.id]
                self._streams -= ticket.stream
                ticket.done = True
                ticket._tell(ticket.request.output_tokens)
        if self._streams:
            for ticket in self._tickets.values():
                if ticket.stream:
                    tokens = self.engine.produced(ticket.request.id)
                    if tokens > ticket.tokens:
                        ticket._tell(tokens)

    async def _sleep(self, until_s: float) -> None:
        delay = (until_s - self.now_s) / self._scale
        await asyncio.sleep(max(0.0, delay))

    async def _pause(self, until_s: float | None) -> None:
        """Wait for ``until_s`` or for a request, whichever is first."""
        timer = None
        if until_s is not None:
            delay = (until_s - self.now_s) / self._scale
            if delay <= 0:
                return
            timer = asyncio.get_running_loop().call_later(delay, self._wake.set)
        await self._wake.wait()
        self._wake.clear()
        if timer is not None:
            timer.cancel()
