"""Whole programs are let in as far as the KV cache holds them: ThunderAgent (arXiv 2602.13692)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from rejoule.replay.policy.interface import Decision, Pending, Policy, Program, Send, View
from rejoule.traces.errors import RejouleError


@dataclass
class Admission(Policy):
    """The tokens of all programs let in, and ``buffer_tokens`` for each, stay within the KV cache.

    A program (a workflow) has the tokens of its calls that are pending or in flight, or, while it is in a tool, those
    of its last call and its answer. One that is new is let in at once if nobody waits and it fits. Every ``period_s``
    those that wait are let in as far as they fit: with a call pending, then new ones, then those in a tool, the
    smallest first. Then, if those let in have grown beyond the cache, programs are paused: in a tool first, then the
    others, the smallest first. Calls of one that is not let in are held; those in flight go on. One program is always
    let in, however large it is.
    """

    kv_tokens: int = 0
    """What the cache has room for; 0 is what the engine says."""
    buffer_tokens: int = 100
    period_s: float = 5.0
    _inside: set[str] = field(default_factory=set, init=False)
    _waiting: set[str] = field(default_factory=set, init=False)
    """Those that were not let in when the policy was last asked."""
    _next_s: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        for name, value in {"kv_tokens": self.kv_tokens, "buffer_tokens": self.buffer_tokens}.items():
            if value < 0:
                raise RejouleError(f"{name} = {value} has no meaning", "give 0 or more")
        if not self.period_s > 0:
            raise RejouleError(f"period_s = {self.period_s:g} has no meaning", "give seconds above 0")

    def decide(self, view: View) -> Decision:
        sizes = _sizes(view)
        room = self._room(view)
        active = {call.workflow for call in view.calls}

        def rank(name: str) -> tuple[int, int]:
            new = not view.programs[name].done
            return (1 if new else 0) if name in active else 2, sizes[name]

        self._inside &= sizes.keys()
        self._waiting &= sizes.keys()
        if self._next_s is None:
            self._next_s = view.now_s + self.period_s
        if view.now_s >= self._next_s:
            self._next_s = view.now_s + self.period_s
            self._let_in(sorted(sizes.keys() - self._inside, key=lambda n: (rank(n), n)), sizes, room)
            self._pause(sorted(self._inside, key=lambda n: (n in active, sizes[n], n)), sizes, room)
        elif not self._waiting:
            for name in [name for name in sizes if name not in self._inside]:
                if not self._let_in([name], sizes, room):
                    break
        if not self._inside:
            self._inside.add(min(active, key=lambda n: (rank(n), n)))
        self._waiting = sizes.keys() - self._inside
        sent = tuple(Send(call.id) for call in view.pending if call.workflow in self._inside)
        return Decision(sent, self._next_s if len(sent) < len(view.pending) else None)

    def _room(self, view: View) -> int:
        if room := self.kv_tokens or view.capacity.kv_tokens:
            return room
        what = "the engine does not say how many tokens its KV cache holds"
        raise RejouleError(what, "give --policy-option kv_tokens=NUMBER")

    def _let_in(self, names: Iterable[str], sizes: Mapping[str, int], room: int) -> bool:
        """Those that fit beside those inside; whether the last one did."""
        fits = True
        left = room - self._needed(self._inside, sizes)
        for name in names:
            needed = self._needed([name], sizes)
            if fits := needed <= left:
                self._inside.add(name)
                left -= needed
        return fits

    def _pause(self, names: Iterable[str], sizes: Mapping[str, int], room: int) -> None:
        """The first of those inside, until the others fit or one is left."""
        for name in names:
            if len(self._inside) > 1 and self._needed(self._inside, sizes) > room:
                self._inside.discard(name)

    def _needed(self, names: Collection[str], sizes: Mapping[str, int]) -> int:
        return sum(sizes[name] for name in names) + self.buffer_tokens * len(names)


def _sizes(view: View) -> dict[str, int]:
    """Tokens of the programs that are not over, in the order of their first calls."""
    found = {name: _last_tokens(program) for name, program in view.programs.items() if not program.over}
    found.update(dict.fromkeys((call.workflow for call in view.calls), 0))
    for call in view.calls:
        found[call.workflow] += _prompt_tokens(call)
    return found


def _last_tokens(program: Program) -> int:
    if not program.done:
        return 0
    last = program.done[-1]
    return _prompt_tokens(last.call) + last.output_tokens


def _prompt_tokens(call: Pending) -> int:
    if call.prompt_tokens is None:
        raise RejouleError(
            f"nobody counted the tokens of the prompt of {call.id}", "record from a server that counts them"
        )
    return call.prompt_tokens
