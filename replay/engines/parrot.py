"""A Parrot server (``parrot:URL``): a session per workflow, semantic calls, and variables where answers are quoted.

Parrot answers with a text and nothing else: no counts, no token ids, no time of a first token, no finish reason. All of
that is ``None``, and the certificate's tier is ``none``: lengths are asked for, and can be neither forced nor seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, Final, Self
from urllib.parse import urlsplit

from rejoule.replay.energy.gpus import GpuWatch
from rejoule.replay.engine import Measured
from rejoule.replay.engines.http import HttpEngine, api_url, open_meters, served_models, timeouts_of
from rejoule.replay.engines.parrot_calls import AHEAD, ahead, changed, check_texts_for_parrot, template
from rejoule.replay.engines.parrot_client import LATENCY, ParrotClient, ParrotError, submitting_s
from rejoule.replay.engines.wire import Wire, WireError
from rejoule.replay.exactness.models import Models, models_for
from rejoule.replay.exactness.requests import digest
from rejoule.replay.exactness.tiers import Lengths
from rejoule.replay.knobs.gpu_session import check_knobs
from rejoule.replay.policy.future import is_sent
from rejoule.traces import RejouleError, Trace
from rejoule.traces.model import Call
from rejoule.traces.run import PARROT, CallResult, Configuration, Tier
from rejoule.traces.run_options import RUN_OPTIONS
from rejoule.traces.secrets import api_key, hidden

MODEL: Final = "the Parrot server's model"
BEHIND: Final = "behind"
"""The option that says which OpenAI-compatible server Parrot's engine asks: its meters are read."""
NOBODY: Final = 0
"""A port at which nothing listens: then no process on the GPUs is taken for another's."""
OPTIONS: Final = (AHEAD, BEHIND, *(name for name in RUN_OPTIONS if name != "first_token_timeout_s"))
PROBE_S: Final = 5.0
"""How often a workflow that waits asks whether Parrot still has its session."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """Of a submitted call: seconds of the monotonic clock, and what went wrong."""

    sent_s: float
    end_s: float
    error: str | None = None


class ParrotEngine(HttpEngine):
    """Sends calls to a Parrot server; ``await ParrotEngine.connect(...)`` makes one."""

    def __init__(
        self, wire: Wire, url: str, configuration: Configuration, trace: Trace, models: Models, submit_s: float
    ) -> None:
        rules = Lengths(configuration, models, exact_lengths=False)
        super().__init__(wire, url, {"id": MODEL, "owned_by": "parrot", "version": None}, rules)
        self._client = ParrotClient(wire)
        self._submit_s = submit_s
        self._ahead = ahead(trace, "trigger" if configuration.edge_set == "trigger" else "barrier", configuration)
        self._later = {name: call for call in trace.calls if (name := call.id) in self._ahead}
        self._sent = sum(map(is_sent, trace.calls))
        self._went_ahead: set[str] = set()
        self._batch: list[Call] = []
        self._sessions: dict[str, asyncio.Task[int]] = {}
        self._variables: dict[str, str] = {}
        """Parrot's name of each submitted call's answer."""
        self._submitted_s: dict[str, float] = {}
        self._outcomes: dict[str, asyncio.Future[_Outcome]] = {}
        """Of each call that was submitted, or is about to be."""
        self._probed_s: dict[int, float] = {}
        self._behind: Wire | None = None
        self._behind_url: str | None = None

    @classmethod
    async def connect(
        cls, configuration: Configuration, trace: Trace, *, watch: GpuWatch | None = None, **_: Any
    ) -> Self:
        """Checks that the server answers a call, and opens its meters.

        Raises RejouleError if it does not, or for a trace that Parrot cannot be given.
        """
        check_texts_for_parrot(trace)
        models = models_for(trace, [MODEL], configuration.options)
        url = server_url(configuration.engine)
        wire = Wire(url, timeouts_of(configuration.options), key=api_key())
        try:
            submit_s = await submitting_s(ParrotClient(wire), url)
            engine = cls(wire, url, configuration, trace, models, submit_s)
            await engine._open_meters(configuration.options.get(BEHIND), watch)
        except BaseException:
            await wire.close()
            raise
        return engine

    @property
    def tier(self) -> Tier:
        return "none"

    def send(
        self, call: Call, due_s: float, ready_s: float, tell_at: Sequence[int] = (), priority: int | None = None
    ) -> None:
        """As `Engine.send`; nothing is told of an answer's parts, and what is due at once is submitted at once."""
        loop = asyncio.get_running_loop()
        if call.id not in self._outcomes:
            if not self._batch:
                loop.call_soon(self._submit_batch)
            self._batch.append(call)
            self._outcomes[call.id] = loop.create_future()
        self._spawn(self._tell(call, due_s, ready_s))

    async def finish(self) -> Measured:
        measured = await super().finish()
        for session in self._sessions.values():
            if session.done() and not session.cancelled() and session.exception() is None:
                try:
                    await self._client.end(session.result())
                except (WireError, ParrotError):
                    break
        told = {
            "calls": self._sent,
            "submitted_ahead": len(self._went_ahead),
            "submitting_s": self._submit_s,
            "behind": self._behind_url,
            "scheduler_flags": None,
        }
        return replace(measured, engine={**measured.engine, "parrot": told})

    async def close(self) -> None:
        await super().close()
        if self._behind is not None:
            await self._behind.close()

    @property
    def _computing_port(self) -> int | None:
        return NOBODY if self._behind_url is None else urlsplit(self._behind_url).port

    async def _open_meters(self, behind: str | None, watch: GpuWatch | None) -> None:
        """Opens the meters of the machine where answers are computed. Raises RejouleError if nothing is ``behind``."""
        if behind is None:
            self._meters, self._watch = await open_meters(self._wire, self._url, watch)
            return
        self._behind_url = api_url(behind)
        self._behind = Wire(self._behind_url.removesuffix("/v1"), key=api_key())
        try:
            self._model = {**self._model, "id": (await served_models(self._behind, self._behind_url))[0].id}
            self._meters, self._watch = await open_meters(self._behind, self._behind_url, watch)
        except BaseException:
            await self._behind.close()
            raise

    def _submit_batch(self) -> None:
        """Submits what is due, and with it what waits for nothing but the answers to it."""
        batch, self._batch = self._batch, []
        loop = asyncio.get_running_loop()
        graphs: dict[str, list[Call]] = {}
        known = {call.id for call in batch} | self._variables.keys()
        for name, call in self._later.items():
            if name not in self._outcomes and known.issuperset(self._ahead[name]):
                known.add(name)
                self._went_ahead.add(name)
                self._outcomes[name] = loop.create_future()
                graphs.setdefault(call.workflow, []).append(call)
        needed = {source for calls in graphs.values() for call in calls for source in self._ahead[call.id]}
        roots = {call.workflow: [c for c in batch if c.workflow == call.workflow and c.id in needed] for call in batch}
        for call in batch:
            if call.id not in needed:
                self._spawn(self._submit([call]))
        for workflow, calls in graphs.items():
            self._spawn(self._submit([*roots.get(workflow, ()), *calls]))

    async def _submit(self, calls: Sequence[Call]) -> None:
        """Submits calls of one workflow in order. Of several, the last ones begin all: what Parrot derives for a call
        from what waits for it, it can only derive once it has been told all of it."""
        inner = {source for call in calls for source in self._ahead.get(call.id, ())}
        for call in calls:
            sent_s = monotonic()
            answers = self._ahead.get(call.id, {})
            try:
                if lost := sorted(answers.keys() - self._variables.keys()):
                    raise ParrotError(f"there is no answer of {lost[0]} to quote")
                session = await self._session(call.workflow)
                body = template(self._rules.ask(call).body, answers).payload(session, self._variables)
                if len(calls) > 1 and call.id not in inner:
                    body["output_criteria"] = LATENCY
                self._variables[call.id] = await self._client.submit(body, call.id)
            except (WireError, ParrotError) as error:
                self._outcomes[call.id].set_result(_Outcome(sent_s, monotonic(), str(error)))
            else:
                self._submitted_s[call.id] = sent_s
        for call in calls:
            if call.id in self._submitted_s:
                self._spawn(self._fetch(call, session))

    async def _fetch(self, call: Call, session: int) -> None:
        answer = asyncio.create_task(self._client.answer(session, self._variables[call.id], call.id))
        error = None
        try:
            while not (await asyncio.wait({answer}, timeout=PROBE_S))[0]:
                await self._probe(session)
            answer.result()
        except WireError as fault:
            error = str(fault)
        except ParrotError as fault:
            error = f"Parrot gave the call up: {fault}"
        finally:
            answer.cancel()
        self._outcomes[call.id].set_result(_Outcome(self._submitted_s[call.id], monotonic(), error))

    async def _probe(self, session: int) -> None:
        if monotonic() - self._probed_s.get(session, 0.0) >= PROBE_S:
            self._probed_s[session] = monotonic()
            await self._client.probe(session)

    async def _session(self, workflow: str) -> int:
        if workflow not in self._sessions:
            self._sessions[workflow] = asyncio.create_task(self._client.session())
        return await self._sessions[workflow]

    async def _tell(self, call: Call, due_s: float, ready_s: float) -> None:
        """Makes a result of a call that is due, once it has ended."""
        outcome = await self._outcomes[call.id]
        sent_s, end_s = outcome.sent_s - self._origin, outcome.end_s - self._origin
        if call.id in self._went_ahead:
            # It began when the last answer that it waits for was there, and its client's own time was left out.
            before = [await self._outcomes[source] for source in self._ahead[call.id]]
            sent_s = min(end_s, max(one.end_s for one in before) - self._origin)
            due_s = min(due_s, sent_s)
        else:
            self._late_s.append(sent_s - ready_s)
        self._calls.append((sent_s, end_s))
        asked = self._rules.ask(call)
        self._results.append(
            CallResult(
                id=call.id,
                workflow=call.workflow,
                node=call.node,
                agent=call.agent,
                due_s=due_s,
                sent_s=sent_s,
                end_s=end_s,
                first_token_s=None,
                prompt_tokens=None,
                cached_tokens=None,
                output_tokens=None,
                finish_reason=None,
                exact=None if outcome.error is None else False,
                prompt_digest=digest(asked.prompt),
                output_digest=str(None),
                altered=(*asked.altered, *changed(call, quotes=call.id in self._ahead)),
                error=None if outcome.error is None else hidden(outcome.error),
            )
        )
        self._awake()

    async def _death(self) -> RejouleError | None:
        try:
            # Parrot has no such path, and says so while it lives.
            await self._wire.get("/v1/models", timeout_s=10)
        except WireError:
            return RejouleError(
                f"the Parrot server at {self._url} stopped answering",
                "start it again and repeat the command: finished runs are kept, the unfinished one is repeated",
            )
        return None


def server_url(engine: str) -> str:
    """The root of a Parrot server, of ``parrot:URL``. Raises RejouleError if it is no URL."""
    url = engine.removeprefix(PARROT)
    if not url.startswith(("http://", "https://")):
        raise RejouleError(f"engine {engine!r} names no Parrot server", "give one such as parrot:http://127.0.0.1:9000")
    return api_url(url).removesuffix("/v1")


def check_parrot(configuration: Configuration) -> None:
    """Raises RejouleError if a configuration asks a Parrot server for what it cannot do."""
    c = configuration
    server_url(c.engine)
    if unknown := sorted(set(c.options) - set(OPTIONS)):
        raise RejouleError(
            f"{', '.join(unknown)} cannot be set on a Parrot server that is already running",
            f"set it where Parrot's engine is started; parrot:URL takes {', '.join(OPTIONS)}",
        )
    if (behind := c.options.get(BEHIND)) is not None:
        api_url(str(behind))
    gap_s = c.options.get(AHEAD, 0.0)
    if isinstance(gap_s, bool) or not isinstance(gap_s, int | float) or not 0 <= gap_s <= 1e6:
        raise RejouleError(f"{AHEAD}={gap_s} is no time", f"give seconds, as in {AHEAD}=0.1, or leave it out")
    given = (("--max-num-seqs", c.max_num_seqs), ("--profile", c.profile))
    if refused := [flag for flag, value in given if value is not None]:
        raise RejouleError(
            f"{' and '.join(refused)} cannot be set on a Parrot server that is already running",
            "set it where Parrot's engine is started, or use --engine sim",
        )
    if c.loops > 1:
        raise RejouleError(
            "a Parrot server cannot keep the passes of --loops apart in its prefix cache", "replay without --loops"
        )
    timeouts_of(c.options)
    check_knobs(c)
