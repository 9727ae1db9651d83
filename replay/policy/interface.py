"""What a scheduling policy sees, and what it says: a policy of your own needs nothing else of ReJoule.

A policy is asked whenever a call is due, has ended or has failed, and at the times that it names itself, as long as a
place is free. It is pure: it has no clock but ``View.now_s``, does no I/O, and draws no random number, so that equal
runs stay equal. It may keep what it saw: each pass of a run has a policy object of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

Knows = Literal["learned", "oracle"]
Basis = Literal["recorded", "node", "graph", "trace", "nothing"]


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is still to come with a call, itself included: as recorded (``oracle``), or as a mean (``learned``).

    Tokens are those of answers, scaled as the replay scales them. Seconds are the recording's: its server's times by
    the scale of outputs, and tools and thinking by the scale of time; they tell long from short, not how long it takes.
    """

    output_tokens: float
    """Of this call's answer."""
    call_s: float
    """How long this call takes."""
    after_s: float
    """From its end to the next call that waits for it, tools and thinking between them; 0 where none does."""
    path_tokens: float
    """Of the answers on the longest chain of calls that begins with this one."""
    path_s: float
    """How long the longest chain takes that begins with this call, its tools and thinking included."""
    path_calls: float
    """How many calls the chain with most of them has."""
    rest_tokens: float
    """Of the answers of this call and of all those of its workflow that were recorded to begin after it."""
    rest_calls: float
    """How many those are, this call among them."""
    workflow_s: float
    """How long the longest chain of its whole workflow takes."""
    slack_s: float
    """By how much it may be late without delaying its workflow's end."""
    sibling_slack_s: float
    """By how much it may be late without delaying what waits for it, because it waits for others longer."""
    fan_out: float
    """How many calls wait for it directly, tools between them apart."""
    joined: float
    """Most calls that one call waits for directly, of those that wait for this one; 1 where it is alone, or last."""
    grouped: float
    """1 if a later call also waits for calls that do not follow from this one: both are of one task group, else 0."""
    last: float
    """1 if no call comes after it in its workflow, else 0; in a mean, how often that was so."""
    basis: Basis
    """What it was made of: see `rejoule.replay.policy.knowledge`. Of ``nothing``, it is the same for all calls."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A call that may go out: all that it waits for has happened."""

    id: str
    workflow: str
    graph: str
    node: str
    agent: str | None
    prompt_tokens: int | None
    """Scaled as the replay scales prompts; ``None`` if nobody counted."""
    prefix: str
    """Equal for calls whose prompts begin alike: with the same tools and first message, or the same first tokens."""
    due_s: float
    arrival_s: float
    """Of its workflow."""
    place: int
    """Of its workflow in the order of arrival, from 0."""
    turn: int
    """1 for the first call of its workflow that was due, 2 for the next."""
    visit: int
    """The same among the calls of its node: loops come to a node many times."""
    outlook: Outlook


@dataclass(frozen=True, slots=True)
class Flight:
    """A call that was sent and has not ended."""

    call: Pending
    sent_s: float
    priority: int


@dataclass(frozen=True, slots=True)
class Done:
    """A call that has ended."""

    call: Pending
    sent_s: float
    end_s: float
    output_tokens: int
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Program:
    """What one workflow has had so far."""

    workflow: str
    arrival_s: float
    done: tuple[Done, ...] = ()
    """Its calls that have ended, in that order."""
    over: bool = False
    """Whether nothing of it is to come, neither calls nor tools."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the engine can hold at a time; ``None`` where it does not say."""

    seats: int | None = None
    """Requests that are computed at a time."""
    kv_tokens: int | None = None
    """Tokens that its KV cache has room for."""


UNKNOWN: Final = Capacity()


@dataclass(frozen=True, slots=True)
class View:
    """All that a policy may know when it is asked."""

    now_s: float
    pending: tuple[Pending, ...]
    """In the order in which they became due."""
    in_flight: Mapping[str, Flight]
    """By call."""
    programs: Mapping[str, Program]
    """By workflow, of those of which a call has been due."""
    free: int | None
    """Calls that may go out now under the replay's ``concurrency``, at least 1; ``None`` is no limit."""
    capacity: Capacity
    knows: Knows

    @property
    def calls(self) -> tuple[Pending, ...]:
        """Those that are pending, and those in flight."""
        return (*self.pending, *(flight.call for flight in self.in_flight.values()))

    @property
    def room(self) -> int | None:
        """How many more calls would be computed at once: free places, and seats; ``None`` if nothing limits them."""
        seats = self.capacity.seats
        limits = [self.free, None if seats is None else max(0, seats - len(self.in_flight))]
        return min((limit for limit in limits if limit is not None), default=None)

    @property
    def crowded(self) -> bool:
        """Whether some of the pending calls will have to wait, whatever is decided."""
        return self.room is not None and len(self.pending) > self.room


@dataclass(frozen=True, slots=True)
class Send:
    """A call goes out now; a lower priority is served sooner by an engine that queues by priority."""

    call: str
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """What goes out now, in this order and all in one step; what is not named is held.

    Of more calls than ``View.free`` the first go out, and the others are held.
    """

    send: tuple[Send, ...] = ()
    ask_again_s: float | None = None
    """When to ask again although nothing has happened by then; later than now."""


class Policy:
    """Orders calls by ``priority``, which is all that most policies have to say; ties are first come, first served.

    A policy that needs all calls at once overrides ``priorities``; one that holds calls, or releases several together,
    overrides ``decide``. Parameters of the constructor are set with ``--policy-option NAME=VALUE``.
    """

    def priority(self, call: Pending, view: View) -> int:
        """Lower goes out sooner, from the client and from the engine's queue."""
        return 0

    def priorities(self, view: View) -> Sequence[int]:
        """The same for each of ``view.pending``."""
        return [self.priority(call, view) for call in view.pending]

    def decide(self, view: View) -> Decision:
        """Sends all calls in the order of their priorities, as far as there are places."""
        ranks = self.priorities(view)
        if len(ranks) != len(view.pending):
            raise ValueError(f"{len(ranks)} priorities for {len(view.pending)} calls")
        ordered = sorted(range(len(view.pending)), key=lambda i: (ranks[i], view.pending[i].due_s, i))
        return Decision(tuple(Send(view.pending[i].id, ranks[i]) for i in ordered))
