"""The calls that are due and wait for the policy's word: what it is shown, and whether what it says makes sense.

Pure, as the policies are: whoever drives it says what time it is.
"""

from __future__ import annotations

import hashlib
import traceback
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import fsum, isfinite
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

import orjson

from rejoule.replay.exactness.requests import scaled_length
from rejoule.replay.policy.future import answer_tokens
from rejoule.replay.policy.interface import (
    UNKNOWN,
    Capacity,
    Decision,
    Done,
    Flight,
    Pending,
    Policy,
    Program,
    Send,
    View,
)
from rejoule.replay.policy.knowledge import Knowledge, Seen
from rejoule.traces.errors import RejouleError
from rejoule.traces.loops import recorded_name
from rejoule.traces.model import Call, Workflow

MOST_IDLE_S: Final = 3600.0
"""How long a policy may hold everything while nothing is in flight and nothing else is to come."""
LEAST_S: Final = 1e-3
"""Between two times at which a policy is asked although nothing happened."""
MOST_ASKS: Final = 1000
"""In a row while nothing happens and the policy holds everything: nothing will."""
MOST_PRIORITY: Final = 2**31
PREFIX_TOKENS: Final = 64
"""Of a prompt without messages that stand for its beginning."""


class Released(NamedTuple):
    """A call that goes out, and when it could."""

    call: Call
    due_s: float
    ready_s: float
    """When it was due, or when what the policy waited for came, if it held the call."""
    priority: int


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a policy went by and did, over a run."""

    outlooks: Mapping[str, int]
    """Calls by the basis of their outlooks."""
    held_calls: int = 0
    """Calls that could have gone out and were held."""
    held_s: float = 0.0
    """How long they were, added up."""


def summed(found: Iterable[Chosen]) -> Chosen | None:
    """Of several passes; ``None`` of none."""
    passes = list(found)
    outlooks = sum((Counter(one.outlooks) for one in passes), Counter[str]())
    held_calls, held_s = sum(one.held_calls for one in passes), sum(one.held_s for one in passes)
    return Chosen(dict(sorted(outlooks.items())), held_calls, held_s) if passes else None


class Gate:
    """Holds calls for one policy."""

    def __init__(
        self,
        policy: Policy,
        name: str,
        knowledge: Knowledge,
        workflows: Sequence[Workflow],
        arrival_s: Mapping[str, float],
        *,
        input_scale: float = 1.0,
        output_scale: float = 1.0,
        capacity: Capacity = UNKNOWN,
    ) -> None:
        """``name`` is what errors call the policy; ``arrival_s`` is by workflow, infinite where it is told later.

        Knowledge has the trace's names.
        """
        self._policy = policy
        self._name = name
        self._knowledge = knowledge
        self._arrival_s = dict(arrival_s)
        self._graph = {w.id: w.graph for w in workflows}
        self._place = {w: i for i, w in enumerate(sorted(self._graph, key=lambda w: arrival_s[w]))}
        self._input_scale = input_scale
        self._output_scale = output_scale
        self._capacity = capacity
        self._calls: dict[str, Call] = {}
        self._pending: dict[str, Pending] = {}
        self._offered: dict[str, float] = {}
        """Those that the policy could have sent and held, and since when."""
        self._in_flight: dict[str, Flight] = {}
        self._programs: dict[str, Program] = {}
        self._turns: Counter[str] = Counter()
        self._visits: Counter[tuple[str, str]] = Counter()
        self._news_s = 0.0
        """When the latest happened that the policy is asked for."""
        self._idle_since_s: float | None = None
        self._idle_asks = 0
        self._outlooks: Counter[str] = Counter()
        self._held_s: list[float] = []
        self.ask_again_s: float | None = None
        """When the policy wants to be asked although nothing has happened by then."""

    @property
    def chosen(self) -> Chosen:
        """What the policy did so far."""
        return Chosen(dict(self._outlooks), len(self._held_s), fsum(self._held_s))

    def arrives(self, workflow: str, at_s: float) -> None:
        """It is known when a workflow arrives."""
        self._arrival_s[workflow] = at_s

    def add(self, call: Call, due_s: float) -> None:
        """A call is due."""
        workflow = call.workflow
        self._turns[workflow] += 1
        self._visits[workflow, call.node] += 1
        graph, visit = self._graph[workflow], self._visits[workflow, call.node]
        seen = Seen(recorded_name(call.id), recorded_name(workflow), graph, call.node, visit)
        prompt = call.prompt_tokens
        self._calls[call.id] = call
        self._programs.setdefault(workflow, Program(workflow, self._arrival_s[workflow]))
        self._pending[call.id] = Pending(
            id=call.id,
            workflow=workflow,
            graph=graph,
            node=call.node,
            agent=call.agent,
            prompt_tokens=None if prompt is None else scaled_length(prompt, self._input_scale),
            prefix=prefix(call),
            due_s=due_s,
            arrival_s=self._arrival_s[workflow],
            place=self._place[workflow],
            turn=self._turns[workflow],
            visit=visit,
            outlook=self._knowledge.outlook(seen),
        )
        self._news(due_s)

    def ended(self, name: str, at_s: float, *, failed: bool = False) -> None:
        """A call that was sent has ended."""
        flight = self._in_flight.pop(name)
        tokens = answer_tokens(self._calls.pop(name), self._output_scale)
        program = self._programs[flight.call.workflow]
        done = Done(flight.call, flight.sent_s, at_s, 0 if failed else tokens, failed)
        self._programs[flight.call.workflow] = replace(program, done=(*program.done, done))
        self._news(at_s)

    def over(self, workflow: str, at_s: float) -> None:
        """Nothing of a workflow is to come."""
        if (program := self._programs.get(workflow)) is not None:
            self._programs[workflow] = replace(program, over=True)
            self._news(at_s)

    def ask(self, now_s: float, free: int | None, more_to_come: bool) -> list[Released]:
        """The calls that go out now, at most ``free``, in order.

        ``more_to_come`` says whether anything will be due or end by itself. Raises RejouleError for a policy that
        fails, that says what makes no sense, or that nobody would ever ask again.
        """
        if self.ask_again_s is not None and self.ask_again_s <= now_s:
            self._news(self.ask_again_s)
        self.ask_again_s = None
        if free == 0 or not self._pending:
            return []
        pending = tuple(self._pending.values())
        view = View(
            now_s=now_s,
            pending=pending,
            in_flight=MappingProxyType(self._in_flight),
            programs=MappingProxyType(self._programs),
            free=free,
            capacity=self._capacity,
            knows=self._knowledge.knows,
        )
        decision = self._checked(self._asked(view), now_s)
        found = [self._released(send, now_s) for send in decision.send[:free]]
        if free is None or len(found) < free:
            for name, call in self._pending.items():
                self._offered.setdefault(name, max(call.due_s, self._news_s))
        if decision.ask_again_s is not None:
            self.ask_again_s = max(decision.ask_again_s, now_s + LEAST_S)
        if not self._in_flight and not more_to_come:
            self._check_idle(now_s)
        else:
            self._idle_since_s, self._idle_asks = None, 0
        return found

    def _news(self, at_s: float) -> None:
        self._news_s = max(self._news_s, at_s)

    def _released(self, send: Send, now_s: float) -> Released:
        call = self._pending.pop(send.call)
        ready_s = call.due_s
        if send.call in self._offered:
            ready_s = max(ready_s, self._news_s)
            self._held_s.append(ready_s - self._offered.pop(send.call))
        self._outlooks[call.outlook.basis] += 1
        self._in_flight[send.call] = Flight(call, now_s, send.priority)
        return Released(self._calls[send.call], call.due_s, ready_s, send.priority)

    def _asked(self, view: View) -> object:
        try:
            return self._policy.decide(view)
        except RejouleError as error:
            raise RejouleError(f"the policy {self._name}: {error.what}", error.remedy) from None
        except (Exception, SystemExit) as error:
            at = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(at.filename).name}, line {at.lineno}"
            raise RejouleError(
                f"the policy {self._name} failed: {type(error).__name__} in {where}: {error}",
                "mend it, or take another",
            ) from error

    def _checked(self, said: object, now_s: float) -> Decision:
        if not isinstance(said, Decision):
            raise self._nonsense(f"it answered with {type(said).__name__}", "return a Decision")
        if not isinstance(said.send, tuple | list):
            raise self._nonsense(f"it would send {said.send!r}", "fill Decision.send with a tuple of Send")
        sent: set[str] = set()
        for send in said.send:
            if not isinstance(send, Send):
                raise self._nonsense(f"it would send {send!r}", "fill Decision.send with Send(call.id, priority)")
            if send.call not in self._pending or send.call in sent:
                why = "twice" if send.call in sent else "which is not pending"
                raise self._nonsense(f"it sent {send.call!r}, {why}", "send each of View.pending at most once")
            if type(send.priority) is not int or not -MOST_PRIORITY <= send.priority < MOST_PRIORITY:
                raise self._nonsense(
                    f"its priority for {send.call} is {send.priority!r}", "give a whole number of 32 bits"
                )
            sent.add(send.call)
        at_s = said.ask_again_s
        if at_s is not None and not (isinstance(at_s, int | float) and isfinite(at_s) and at_s > now_s):
            raise self._nonsense(
                f"it would be asked again at {at_s!r}, and now is {now_s}", "name a later time, or None"
            )
        return said

    def _check_idle(self, now_s: float) -> None:
        self._idle_since_s = now_s if self._idle_since_s is None else self._idle_since_s
        self._idle_asks += 1
        until_s = self.ask_again_s
        if self._idle_asks > MOST_ASKS:
            waits = f"was asked {MOST_ASKS:,} times in vain"
        elif until_s is None:
            waits = "names no time to be asked again"
        elif until_s > self._idle_since_s + MOST_IDLE_S:
            waits = f"would for over {MOST_IDLE_S:g} s"
        else:
            return
        raise RejouleError(
            f"the policy {self._name} holds {len(self._pending)} calls while nothing is in flight, and {waits}",
            "let it send a call when View.in_flight is empty",
        )

    def _nonsense(self, what: str, remedy: str) -> RejouleError:
        return RejouleError(f"the policy {self._name} makes no sense: {what}", remedy)


def prefix(call: Call) -> str:
    """What the beginnings of prompts are told apart by."""
    request = call.request
    if messages := request.get("messages"):
        return _digest([request.get("tools"), messages[0]])
    if call.prompt_token_ids is not None:
        return _digest(list(call.prompt_token_ids[:PREFIX_TOKENS]))
    prompt = request.get("prompt")
    return _digest(prompt[: 4 * PREFIX_TOKENS] if isinstance(prompt, str) else list(prompt or ())[:PREFIX_TOKENS])


def _digest(value: object) -> str:
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
