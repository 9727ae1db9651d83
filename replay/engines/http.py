"""A server at a URL: any that speaks OpenAI's HTTP interface, in wall time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from secrets import randbelow, token_hex
from time import monotonic, process_time
from typing import Any, Final, Self
from urllib.parse import urlsplit

import msgspec
import orjson

from rejoule.replay.energy.counter import open_counter
from rejoule.replay.energy.gpus import GpuRun, GpuWatch
from rejoule.replay.energy.meter import Counts, Meter, energy_between, read
from rejoule.replay.energy.rapl import open_rapl
from rejoule.replay.engine import Emitted, Measured, RealServer
from rejoule.replay.engines.client_health import core_wait_s, quantiles, undisturbed
from rejoule.replay.engines.completion import Completion, OnTokens, WholeCompletion, error_text
from rejoule.replay.engines.embedded_meter import EmbeddedMeter, open_embedded
from rejoule.replay.engines.wire import Request, Timeouts, Wire, WireError
from rejoule.replay.exactness.models import Models, models_for
from rejoule.replay.exactness.requests import digest
from rejoule.replay.exactness.splicing import Spliced
from rejoule.replay.exactness.tiers import SALT, Asked, Lengths, Rules, exact, output_digest
from rejoule.replay.policy.acting import queues_by_priority
from rejoule.replay.policy.interface import Capacity
from rejoule.traces import RejouleError, Trace
from rejoule.traces.decoding import DamagedError, decoded
from rejoule.traces.model import Call
from rejoule.traces.run import CallResult, Configuration, Tier
from rejoule.traces.secrets import VARIABLE, api_key, hidden

EXACT_LENGTHS: Final = ("vllm", "rejoule")
"""Values of ``owned_by`` of servers that understand ``min_tokens`` and ``ignore_eos``."""
REFUSED: Final = (400, 404, 405, 413, 415, 422, 501)
"""HTTP statuses by which a server says that it will never do what is asked of it."""
DIGITS: Final = 12
"""Of a salt in front of a prompt. Tokenizers make equally many tokens of equally many digits, or nearly all do."""
LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "::1", "0.0.0.0")
EARLY_S: Final = 0.2e-3
"""How long before a call is due the loop wakes and watches the clock: timers are late by about half of it."""


class _Served(msgspec.Struct):
    id: str
    owned_by: str | None = None
    max_model_len: int | None = None
    root: Any = None


class _Version(msgspec.Struct):
    version: str | None = None


class _Models(msgspec.Struct):
    data: list[_Served]


_MODELS: Final = msgspec.json.Decoder(_Models).decode
_VERSION: Final = msgspec.json.Decoder(_Version).decode


class HttpEngine:
    """Sends calls to a server; ``await HttpEngine.connect(...)`` makes one."""

    def __init__(self, wire: Wire, url: str, model: Mapping[str, Any], rules: Rules) -> None:
        self._wire = wire
        self._url = url
        self._model = model
        self._rules = rules
        self._meters: list[Meter] = []
        self._watch: GpuWatch | None = None
        self._calls: list[tuple[float, float]] = []
        self._before = Counts(())
        self._quiet = ExitStack()
        self._origin = self._end = monotonic()
        self._cpu_s = process_time()
        self._core_wait_s = core_wait_s()
        self._late_s: list[float] = []
        self._in_flight: set[asyncio.Task[None]] = set()
        self._results: list[CallResult | Emitted] = []
        self._wake: asyncio.Future[None] | None = None
        self._isolation: str | None = None
        self._by_priority = False
        self._unranked: RejouleError | None = None
        """The server will not take priorities."""

    @classmethod
    async def connect(
        cls,
        configuration: Configuration,
        trace: Trace,
        *,
        url: str | None = None,
        rules: Rules | None = None,
        timeouts: Timeouts | None = None,
        watch: GpuWatch | None = None,
    ) -> Self:
        """Checks the server and opens its meters; ``watch`` measures the GPUs if the server runs on this machine's.

        What is not given follows from ``configuration``: the URL is its engine, the rules are those of tier
        ``lengths``, the timeouts are among its options. Raises RejouleError if the server cannot be reached or lists
        no model, or for a timeout that is none.
        """
        url = api_url(url or configuration.engine)
        wire = Wire(url.removesuffix("/v1"), timeouts or timeouts_of(configuration.options), key=api_key())
        try:
            served = await served_models(wire, url)
            model = _described(served, await _version(wire))
            exact_lengths = model.get("owned_by") in EXACT_LENGTHS
            if rules is None:
                models = models_for(trace, [one.id for one in served], configuration.options)
                rules = _rules(configuration, models, exact_lengths)
            engine = cls(wire, url, model, rules)
            engine._isolation = _isolation(configuration, exact_lengths)
            engine._by_priority = queues_by_priority(configuration)
            engine._meters, engine._watch = await open_meters(wire, url, watch)
        except BaseException:
            await wire.close()
            raise
        return engine

    @property
    def tier(self) -> Tier:
        return self._rules.tier

    @property
    def real_server(self) -> RealServer | None:
        if any(meter.source.startswith("model:") for meter in self._meters):
            return None
        power_w = None if self._watch is None else self._watch.power_w
        return RealServer(self._url, isolates_runs=self._isolation is not None, power_w=power_w)

    @property
    def identity(self) -> Mapping[str, Any]:
        modelled = (meter.identity for meter in self._meters if isinstance(meter, EmbeddedMeter))
        return {**self._model, **next(modelled, {})}

    @property
    def _computing_port(self) -> int | None:
        """Where that listens whose processes are expected on the GPUs."""
        return urlsplit(self._url).port

    @property
    def capacity(self) -> Capacity:
        said = self.identity
        blocks, block_size = said.get("num_gpu_blocks"), said.get("block_size")
        return Capacity(said.get("max_num_seqs"), blocks * block_size if blocks and block_size else None)

    async def start(self) -> None:
        self._quiet.enter_context(undisturbed())
        self._before = await read(self._meters)
        self._cpu_s = process_time()
        self._core_wait_s = core_wait_s()
        self._origin = monotonic()
        if self._watch is not None:
            self._watch.focus()

    def now_s(self) -> float:
        return monotonic() - self._origin

    def send(
        self, call: Call, due_s: float, ready_s: float, tell_at: Sequence[int] = (), priority: int | None = None
    ) -> None:
        self._spawn(self._answer(call, due_s, ready_s, tell_at, priority))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._in_flight.add(task)
        task.add_done_callback(self._in_flight.discard)

    async def wait(self, until_s: float | None) -> Sequence[CallResult | Emitted]:
        if not self._results:
            await self._pause(until_s)
        if self._unranked is not None:
            raise self._unranked
        found, self._results = self._results, []
        if any(isinstance(r, CallResult) and r.error for r in found) and (death := await self._death()) is not None:
            raise death
        return found

    async def finish(self) -> Measured:
        self._end = monotonic()
        if self._watch is not None:
            self._watch.focus()
        waited_s = core_wait_s()
        client = {
            "client_cpu_s": process_time() - self._cpu_s,
            "client_core_wait_s": None
            if waited_s is None or self._core_wait_s is None
            else waited_s - self._core_wait_s,
            "client_lateness_s": quantiles(self._late_s),
            "client_retries": self._wire.retries,
        }
        measured = Measured(
            energy=energy_between(self._meters, self._before, await read(self._meters)),
            engine={
                "url": self._url,
                **self.identity,
                **client,
                "cold_cache": None if self._isolation is None else True,
                "cold_proof": self._isolation or "this server cannot be told to forget",
            },
        )
        if self._watch is None:
            return measured
        gpus = await self._watch.run(self._origin, self._end, self._calls, self._computing_port)
        return _with_gpus(measured, gpus)

    async def close(self) -> None:
        self._quiet.close()
        for task in self._in_flight:
            task.cancel()
        await asyncio.gather(*self._in_flight, return_exceptions=True)
        for meter in self._meters:
            await meter.close()
        await self._wire.close()

    async def _pause(self, until_s: float | None) -> None:
        loop = asyncio.get_running_loop()
        self._wake = loop.create_future()
        timer = None if until_s is None else loop.call_at(self._origin + until_s - EARLY_S, self._awake)
        await self._wake
        if timer is not None and until_s is not None:
            timer.cancel()
            while not self._results and self.now_s() < until_s:
                await asyncio.sleep(0)

    def _awake(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _teller(self, name: str, tell_at: Sequence[int]) -> OnTokens | None:
        """What makes results of the numbers of tokens that the sender wants to learn of."""
        if not tell_at:
            return None
        left = list(tell_at)

        def tell(tokens: int, at_s: float) -> None:
            while left and left[0] <= tokens:
                self._results.append(Emitted(name, left.pop(0), at_s - self._origin))
                self._awake()

        return tell

    async def _answer(
        self, call: Call, due_s: float, ready_s: float, tell_at: Sequence[int], priority: int | None
    ) -> None:
        asked = self._rules.ask(call)
        if self._by_priority and priority is not None:
            asked = asked.ranked(priority)
        said, request = self._request(asked, call.id, tell_at)
        error: str | None = None
        refused = False
        matches: bool | None = False
        prompt_digest = ""
        try:
            await request.send()
            # While the server works: the call is on its way, and its successors do not wait for this.
            prompt_digest = digest(asked.prompt)
            await request.answer()
            if request.status in REFUSED and asked.streamed:
                # Servers refuse to stream what they would answer whole.
                said, request = self._request(asked := asked.whole(), call.id)
                await request.send()
                await request.answer()
            said.end(request.end_s)
            error = said.error or (None if said.finish_reason is not None else "the answer was cut")
            matches = exact(asked, said)
            if error is None and asked.output_ids is not None and matches is False:
                error = "it came back different from what was asked for"
            if request.status != 200:
                refused = request.status in REFUSED
                error = f"HTTP {request.status}: {error_text(request.body)}"
                if priority and self._by_priority and refused and "priority" in error.lower():
                    self._unranked = RejouleError(
                        f"the server at {self._url} does not queue by priority: {hidden(error)}",
                        "start it so, as vLLM with --scheduling-policy priority, or leave out priority=true",
                    )
            if error is None:
                self._rules.heard(call, said)
        except WireError as fault:
            error = str(fault)
        self._late_s.append(request.sent_s - self._origin - ready_s)
        self._calls.append((request.sent_s - self._origin, request.end_s - self._origin))
        self._results.append(
            CallResult(
                id=call.id,
                workflow=call.workflow,
                node=call.node,
                agent=call.agent,
                due_s=due_s,
                sent_s=request.sent_s - self._origin,
                end_s=request.end_s - self._origin,
                first_token_s=None if said.first_token_s is None else said.first_token_s - self._origin,
                prompt_tokens=said.prompt_tokens,
                cached_tokens=said.cached_tokens,
                output_tokens=said.output_tokens,
                finish_reason=said.finish_reason,
                exact=matches if error is None else False,
                prompt_digest=prompt_digest or digest(asked.prompt),
                output_digest=output_digest(asked, said),
                altered=asked.altered,
                refused=refused,
                error=None if error is None else hidden(error),
            )
        )
        self._awake()

    def _request(self, asked: Asked, name: str, tell_at: Sequence[int] = ()) -> tuple[Completion, Request]:
        said = Completion(self._teller(name, tell_at)) if asked.streamed else WholeCompletion()
        body = asked.body
        if tell_at and "token_ids" not in body and self._model.get("owned_by") in EXACT_LENGTHS:
            # An event may hold several tokens, or one without text.
            body = {**body, "return_token_ids": True}
        return said, self._wire.request(asked.path, orjson.dumps(body), said, name=name)

    async def _death(self) -> RejouleError | None:
        """What to tell the user if the server is gone; ``None`` while it answers."""
        try:
            if (await self._wire.get("/v1/models", timeout_s=10)).status == 200:
                return None
        except WireError:
            pass
        return RejouleError(
            f"the server at {self._url} stopped answering",
            "start it again and repeat the command: finished runs are kept, the unfinished one is repeated",
        )


def api_url(url: str) -> str:
    """The URL of the API's root, ending in ``/v1``. Raises RejouleError if it is no URL."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise RejouleError(f"engine {url!r} is no URL: {error}", "give one such as http://127.0.0.1:8000/v1") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RejouleError(
            f"engine {url!r} is unknown", "give sim, or a server's URL such as http://127.0.0.1:8000/v1, or vllm"
        )
    # A URL is written into run folders and reports, which people pass on.
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        bare = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        raise RejouleError(
            f"the URL of the server at {bare} holds more than its address",
            f"put its key into {VARIABLE}, and give --engine {bare}",
        )
    root = url.rstrip("/")
    return root if root.endswith("/v1") else f"{root}/v1"


def _rules(configuration: Configuration, models: Models, exact_lengths: bool) -> Rules:
    """Those of the tier that is asked for, on a server that is already running; each run has a cache of its own."""
    salted = configuration.options.get(SALT) == "prompt"
    if configuration.loops > 1 and not exact_lengths and not salted:
        raise RejouleError(
            "this server takes no cache_salt, which keeps the passes of --loops apart in its prefix cache",
            "replay on vLLM, or without --loops, or with --option salt=prompt",
        )
    match configuration.options.get("tier", "lengths"):
        case "lengths" if salted:
            return Lengths(configuration, models, exact_lengths, prompt_salt=f"{randbelow(10**DIGITS):0{DIGITS}}")
        case "lengths":
            return Lengths(configuration, models, exact_lengths, cache_salt=token_hex(8))
        case "spliced" if exact_lengths:
            return Spliced(configuration, models, cache_salt=token_hex(8))
        case "spliced":
            raise RejouleError("tier spliced needs token ids in and out, as vLLM has them", "replay in tier lengths")
        case tier:
            raise RejouleError(
                f"tier {tier!r} cannot be had of a server that is already running",
                "choose lengths or spliced, or let ReJoule start the server: --engine vllm",
            )


def _isolation(configuration: Configuration, exact_lengths: bool) -> str | None:
    """What keeps what other runs left in the server's prefix cache from this one; ``None`` if nothing does."""
    if configuration.options.get(SALT) == "prompt":
        return f"{DIGITS} digits of its own in front of each prompt"
    return "a cache_salt of its own" if exact_lengths else None


def timeouts_of(options: Mapping[str, Any]) -> Timeouts:
    """The limits ``silence_timeout_s``, ``first_token_timeout_s`` and ``call_timeout_s`` among an engine's options.

    Raises RejouleError for one that is not a number above 0.
    """
    given = {
        name: options.get(f"{name.removesuffix('_s')}_timeout_s") for name in ("silence_s", "first_token_s", "call_s")
    }
    for name, value in given.items():
        if value is not None and not (isinstance(value, int | float) and value > 0):
            option = f"{name.removesuffix('_s')}_timeout_s"
            raise RejouleError(f"{option} = {value!r} is no timeout", "give seconds, as in call_timeout_s = 120")
    return Timeouts(**{name: float(value) for name, value in given.items() if value is not None})


async def served_models(wire: Wire, url: str) -> Sequence[_Served]:
    """What the server says of its models, at least one. Raises RejouleError."""
    remedy = "check the URL and that the server is up: curl " + url + "/models"
    try:
        answer = await wire.get("/v1/models", timeout_s=15)
        if answer.status != 200:
            raise RejouleError(f"the server at {url} answered HTTP {answer.status}", remedy)
        models = decoded(answer.body, _MODELS).data
    except WireError as error:
        raise RejouleError(f"cannot reach a server at {url}: {error}", remedy) from error
    except DamagedError as error:
        raise RejouleError(f"the server at {url} lists no models as OpenAI's interface does: {error}", remedy) from None
    if not models:
        raise RejouleError(f"the server at {url} serves no model", "load one, then repeat the command")
    return models


def _described(served: Sequence[_Served], version: str | None) -> dict[str, Any]:
    """What a server says of itself and of its first model; ``None`` is what it does not say."""
    said = msgspec.structs.asdict(served[0])
    root = said["root"] if isinstance(said["root"], str) else None
    return {**said, "root": root, "models": [one.id for one in served], "version": version}


async def _version(wire: Wire) -> str | None:
    try:
        answer = await wire.get("/version", timeout_s=5)
        return decoded(answer.body, _VERSION).version if answer.status == 200 else None
    except (WireError, DamagedError):
        return None


async def open_meters(wire: Wire, url: str, watch: GpuWatch | None) -> tuple[list[Meter], GpuWatch | None]:
    """The meters of a server's machine, and the watch over its GPUs; a modelled server has one of its own."""
    if (embedded := await open_embedded(wire)) is not None:
        return [embedded], None
    if urlsplit(url).hostname not in LOCAL_HOSTS:
        return [], None
    meters: list[Meter] = list(open_rapl())
    if watch is None and (counter := open_counter()) is not None:
        meters.append(counter)
    return meters, watch


def _with_gpus(measured: Measured, gpus: GpuRun) -> Measured:
    others = measured.energy
    energy = replace(
        gpus.energy, cpu_j=others.cpu_j, dram_j=others.dram_j, source={**others.source, **gpus.energy.source}
    )
    return replace(
        measured, energy=energy, power_cap=gpus.power_cap, readings=gpus.readings, conditions=gpus.conditions
    )
