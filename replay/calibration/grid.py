"""The trace that calibration measures: every kind of engine step by itself, long enough for a power reading.

A cell is one kind of step held for about a second: a decode batch at one context, prompts of one size after one cached
prefix, or both together. What the host and the API server need differs from second to second, so the cells that show it
recur throughout: prompts with pauses between them, and prompts all at once. Cells follow each other with the GPU idle
in between, so that readings and steps of one never mix with those of the next. The whole grid is one workflow; a node
is a cell, so joules by node are joules by cell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from math import ceil
from typing import Final

from rejoule.replay.sim.latency import LatencyModel, Work
from rejoule.replay.sim.profile import Profile
from rejoule.traces.made_tokens import VOCABULARY, MadeTokens
from rejoule.traces.model import Call, Edge, Header, Task, ToolCall, Trace, Workflow

WORKFLOW: Final = "grid"
RECURRING: Final = 3
"""After every so many cells come those that show the host and the API server."""
HOSTED: Final = (100, 700)
"""Sizes of the prompts in them: launched with CUDA graphs, as ``max_num_seqs`` allows, and without."""
BESIDE: Final = 4
"""How many decode beside them."""
PAUSE_S: Final = 0.04
CROWD: Final = 16
"""Prompts that are sent at once, and how long those are: a step has room for all of them."""
CROWD_TOKENS: Final = 300
CROWD_ANSWER: Final = 8
STEP_S: Final = 0.006
PROMPT_S: Final = 0.025
"""About what a decode step and a prompt take: they only say how many fill a cell."""
KV_SHARE: Final = 0.9
"""Of the KV cache; cells keep below it, so that nothing is preempted and primed prompts stay cached."""
MS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What the server that the grid is meant for allows, and how long its cells last."""

    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    max_model_len: int = 16384
    kv_tokens: int = 640_000
    """Tokens that the KV cache holds."""
    cell_s: float = 1.2
    gap_s: float = 0.6
    """Idle time between cells."""
    rest_s: float = 3.0
    """Idle time at the beginning and at the end."""


@dataclass(frozen=True, slots=True)
class Kinds:
    """Which kinds of steps have a cell."""

    prefill_tokens: tuple[int, ...]
    """Sizes of the prompts that are sent one after another."""
    cached: tuple[tuple[int, int], ...]
    """Cached prefix and new tokens of prompts that are sent one after another."""
    bursts: tuple[int, ...]
    """Sizes of the prompts that are sent all at once, to fill the step's token budget."""
    decodes: Mapping[int, tuple[int, ...] | None]
    """Context, and the batches that decode at it; ``None`` is each power of two, and the most that the server takes."""
    mixed: tuple[tuple[int, int, int], ...]
    """Decode batch, its context, and the prompt size that joins it."""


FULL: Final = Kinds(
    prefill_tokens=(64, 256, 1024, 4096),
    cached=((2048, 256), (8192, 256), (8192, 1024), (12288, 2048)),
    bursts=(64, 512),
    decodes={128: None, 2048: None, 8192: None},
    mixed=((8, 2048, 4096), (32, 2048, 1024), (64, 128, 256), (128, 128, 2048)),
)
"""What determines all constants."""
QUICK: Final = Kinds(
    prefill_tokens=(256, 1024, 4096),
    cached=((8192, 1024),),
    bursts=(512,),
    decodes={128: (1, 8, 64), 2048: (1, 8, 32, 64), 8192: (1, 8, 16)},
    mixed=((8, 2048, 4096), (32, 2048, 1024)),
)
"""What determines those that differ between cards and hosts of one kind, in 80 s: some of the cells of ``FULL``."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One call: a prompt that shares ``prefix_tokens`` with every other of the same ``prefix``."""

    prefix: str
    prefix_tokens: int
    own: str
    own_tokens: int
    output_tokens: int

    @property
    def tokens(self) -> int:
        return self.prefix_tokens + self.own_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class Pause:
    """Time between two calls of a chain."""

    seconds: float


Chain = tuple[Ask | Pause, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """Chains of calls: the chains at once, the calls of one chain after each other."""

    name: str
    chains: tuple[Chain, ...]


def grid(profile: Profile, limits: Limits | None = None, seed: int = 0, kinds: Kinds = FULL) -> Trace:
    """The grid as a trace of one workflow, of ids that the profile's model has. Else ``profile`` is a guess: it says
    how many steps last ``cell_s``."""
    limits = limits or Limits()
    settings = {name: getattr(limits, name) for name in Limits.__slots__}
    header = Header(graph="calibration-grid", model="any", settings=settings, seed=seed)
    text = _Text(limits.max_model_len, seed, profile.model.vocab_size)
    return Trace(header, (_workflow(list(cells(profile, limits, kinds)), limits, text),))


def kind_of(cell: str) -> str:
    """A cell's name without what counts its recurrences or its prompts: those of one kind show the same."""
    return re.sub(r"-x?\d+$", "", cell)


def cells(profile: Profile, limits: Limits, kinds: Kinds = FULL) -> Iterator[Cell]:
    """The cells in order: those of single kinds of steps, and after every few of them those that recur."""
    recurring = _recurring(limits)
    for number, cell in enumerate(_kinds(profile, limits, kinds)):
        yield cell
        if number % RECURRING == RECURRING - 1:
            yield from next(recurring)


def _recurring(limits: Limits) -> Iterator[tuple[Cell, ...]]:
    """Prompts that come alone, prompts that join a few that decode, and prompts all at once; new ones every time."""
    fresh = count()
    sizes = [new for new in HOSTED if new < limits.max_model_len]
    beside = min(BESIDE, limits.max_num_seqs - 1)
    crowd = min(CROWD, limits.max_num_seqs)
    steps = round(limits.cell_s / STEP_S)

    def prompts(longest_s: float) -> Chain:
        found: list[Ask | Pause] = []
        for _ in range(max(1, round(longest_s / len(sizes) / (PAUSE_S + PROMPT_S)))):
            for new in sizes:
                found += [Ask("", 0, f"h{next(fresh)}", new, 1), Pause(PAUSE_S)]
        return tuple(found)

    for number in count():
        alone = Cell(f"alone-{number}", (prompts(limits.cell_s / 2),))
        decoding = tuple((Ask(f"d{i}", 64, "", 0, min(steps, limits.max_model_len - 65)),) for i in range(beside))
        joining = (Cell(f"joining-{number}", (*decoding, prompts(limits.cell_s))),) if beside else ()
        together = tuple((Ask("", 0, f"h{next(fresh)}", CROWD_TOKENS, CROWD_ANSWER),) for _ in range(crowd))
        yield alone, *joining, Cell(f"together-{number}", together)


def _kinds(profile: Profile, limits: Limits, kinds: Kinds) -> Iterator[Cell]:
    """Each kind of step. Prompts of decode cells are computed in a cell of their own, and found in the cache later."""
    model = LatencyModel(profile)
    clock = profile.gpu.max_clock_mhz
    fresh = count()

    def seconds(work: Work) -> float:
        return model.time(model.demand(work), clock).step_s

    def times(work: Work, least: int) -> int:
        return max(least, ceil(limits.cell_s / seconds(work)))

    def decoding(batch: int, context: int) -> Work:
        return Work(decodes=batch, decode_context=batch * context)

    def prefilling(prompts: int, new: int, context: int = 0) -> Work:
        pairs = prompts * new * (context + new / 2)
        return Work(prompts, prompts * new, pairs, prompts * context, prompts_completed=prompts)

    def decode(batch: int, context: int, steps: int) -> tuple[tuple[Ask, ...], ...]:
        return tuple((Ask(f"c{context}-{i}", context, "", 0, steps),) for i in range(batch))

    def one_by_one(new: int, cached: int, calls: int) -> tuple[Ask, ...]:
        return tuple(Ask(f"p{cached}", cached, f"n{next(fresh)}", new, 1) for _ in range(calls))

    yield Cell("warm-up", decode(8, 256, times(decoding(8, 256), 50)))
    for new in kinds.prefill_tokens:
        if new < limits.max_model_len:
            yield Cell(f"prefill-n{new}-c0", (one_by_one(new, 0, times(prefilling(1, new), 6)),))
    primed: set[int] = set()
    for cached, new in kinds.cached:
        if cached + new < limits.max_model_len:
            if cached not in primed:
                yield Cell(f"prime-n{cached}", (one_by_one(1, cached, 1),))
                primed.add(cached)
            work = prefilling(1, min(new, limits.max_num_batched_tokens), cached)
            yield Cell(f"prefill-n{new}-c{cached}", (one_by_one(new, cached, times(work, 6)),))
    for new in kinds.bursts:
        together = min(limits.max_num_seqs, limits.max_num_batched_tokens // new)
        prompts = together * times(prefilling(together, new), 4)
        yield Cell(f"burst-n{new}-x{prompts}", tuple((ask,) for ask in one_by_one(new, 0, prompts)))
    mixed = [m for m in kinds.mixed if m[0] < limits.max_num_seqs]
    for context, chosen in kinds.decodes.items():
        batches = [b for b in _batches(limits.max_num_seqs, chosen) if _fits(b, context, limits)]
        if not batches or context + 1 >= limits.max_model_len:
            continue
        yield Cell(f"prime-n{context}-x{batches[-1]}", decode(batches[-1], context, 1))
        for batch in batches:
            steps = times(decoding(batch, context), 30)
            steps = min(steps, limits.max_model_len - context - 1)
            yield Cell(f"decode-b{batch}-c{context}", decode(batch, context, steps))
        for batch, beside, new in mixed:
            if beside == context and batch in batches and new < limits.max_model_len:
                work = Work(1, new, new * new / 2, 0, batch, batch * context, 1)
                calls = times(work, 5)
                # The decodes outlast the prompts: each prompt takes a step, and another until the next one is there.
                chains = (*decode(batch, context, 3 * calls), one_by_one(new, 0, calls))
                yield Cell(f"mixed-b{batch}-c{context}-n{new}", chains)


def _batches(most: int, chosen: tuple[int, ...] | None) -> list[int]:
    if chosen is not None:
        return [b for b in chosen if b <= most]
    powers = [1 << i for i in range(most.bit_length())]
    return powers if powers[-1] == most else [*powers, most]


def _fits(batch: int, context: int, limits: Limits) -> bool:
    # A cell of short contexts grows by as many tokens as it emits, a few hundred at most.
    return batch * (context + 256) <= KV_SHARE * limits.kv_tokens


class _Text:
    """Made-up token ids by name: two names differ from their first tokens on, one name has one text."""

    def __init__(self, longest: int, seed: int, vocabulary: int) -> None:
        ids = range(min(VOCABULARY.start, vocabulary // 2), min(VOCABULARY.stop, vocabulary))
        self._tokens = MadeTokens(longest, seed, ids)
        self._numbers: dict[str, int] = {}

    def of(self, name: str, tokens: int) -> tuple[int, ...]:
        return self._tokens.of(self._numbers.setdefault(name, len(self._numbers)), tokens) if tokens else ()


def _workflow(found: Sequence[Cell], limits: Limits, text: _Text) -> Workflow:
    tasks: list[Task] = []
    calls: list[Call] = []
    pauses: list[ToolCall] = []
    edges: list[Edge] = []
    now_ns = 0
    waits_for: list[str] = []

    def pause(seconds: float) -> None:
        nonlocal now_ns
        number = len(pauses)
        name, task = f"{WORKFLOW}/t{number:03d}", f"{WORKFLOW}/idle{number:03d}"
        end_ns = now_ns + round(seconds * 1e9)
        pauses.append(ToolCall(name, WORKFLOW, task, "idle", "idle", now_ns, end_ns))
        tasks.append(Task(task, WORKFLOW, "idle", "", len(tasks), now_ns, end_ns))
        edges.extend(Edge(source, name, "observed") for source in waits_for)
        waits_for[:] = [name]
        now_ns = end_ns

    pause(limits.rest_s)
    for number, cell in enumerate(found):
        task = f"{WORKFLOW}/n{number:03d}"
        ends: list[str] = []
        last_ns = now_ns
        for chain in cell.chains:
            before, at_ns = waits_for[0], now_ns
            for link in chain:
                if isinstance(link, Pause):
                    name, until_ns = f"{WORKFLOW}/p{len(pauses):05d}", at_ns + round(link.seconds * 1e9)
                    pauses.append(ToolCall(name, WORKFLOW, task, cell.name, "pause", at_ns, until_ns))
                else:
                    name, until_ns = f"{WORKFLOW}/c{len(calls):05d}", at_ns + MS
                    calls.append(_call(name, task, cell.name, link, text, at_ns))
                edges.append(Edge(before, name, "observed"))
                before, at_ns = name, until_ns
            ends.append(before)
            last_ns = max(last_ns, at_ns)
        tasks.append(Task(task, WORKFLOW, cell.name, "", len(tasks), now_ns, last_ns))
        waits_for[:], now_ns = ends, last_ns
        pause(limits.rest_s if number + 1 == len(found) else limits.gap_s)
    return Workflow(
        id=WORKFLOW,
        graph="calibration-grid",
        arrival_ns=0,
        end_ns=now_ns,
        tasks=tuple(tasks),
        calls=tuple(calls),
        tool_calls=tuple(pauses),
        edges=tuple(edges),
    )


def _call(name: str, task: str, node: str, ask: Ask, text: _Text, at_ns: int) -> Call:
    prompt = text.of(ask.prefix, ask.prefix_tokens) + text.of(ask.own, ask.own_tokens)
    return Call(
        id=name,
        workflow=WORKFLOW,
        task=task,
        node=node,
        endpoint="completions",
        request={"model": "any", "temperature": 0.8, "max_tokens": ask.output_tokens},
        submit_ns=at_ns,
        end_ns=at_ns + MS,
        status=200,
        finish_reason="length",
        prompt_token_ids=prompt,
        token_ids=text.of(f"answer {name}", ask.output_tokens),
        prompt_tokens=len(prompt),
        output_tokens=ask.output_tokens,
    )
