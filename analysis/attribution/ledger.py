"""Who did what in each stretch of a run, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rejoule.analysis.attribution.experts import woken
from rejoule.analysis.attribution.nnls import Array, Index
from rejoule.analysis.attribution.slices import Slice

TERMS: Final = (
    "step",
    "decode_token",
    "decode_attended",
    "prefill_token",
    "prefill_attended",
    "prompt_step",
    "experts",
    "idle_s",
)
"""What energy is spent on; the columns of every matrix of features."""
STEP, DECODE, DECODE_ATTENDED, PREFILL, PREFILL_ATTENDED, PROMPT_STEP, EXPERTS, IDLE = range(len(TERMS))


@dataclass(frozen=True)
class Ledger:
    """Stretches (S of them) and entries (E: one call in one phase of one stretch)."""

    start_s: Array
    end_s: Array
    idle: NDArray[np.bool_]
    features: Array
    """S × terms: what was done in each stretch."""
    at: Index
    """Stretch of each entry."""
    call: Index
    """Position of its call; the number of calls for one that the run does not list."""
    decode: NDArray[np.bool_]
    """Whether it is the call's decode, rather than its prefill."""
    equal: Array
    """Its share of what is shared equally among the calls of the stretch; a call in both phases has half in each."""
    owed: Array
    """E × terms: its own part of the stretch's features. Entries and idle time add up to them."""
    again: Array
    """The share of its tokens that had been computed before its call was preempted."""

    @property
    def duration_s(self) -> Array:
        return self.end_s - self.start_s


def ledger(slices: Sequence[Slice], calls: Sequence[str], asleep: float = 0.0) -> Ledger:
    """``asleep`` is the chance that a token leaves an expert of the model asleep; 0 where there are none."""
    position = {name: i for i, name in enumerate(calls)}
    at: list[int] = []
    call: list[int] = []
    decode: list[bool] = []
    equal: list[float] = []
    tokens: list[float] = []
    attended: list[float] = []
    again: list[float] = []
    for number, piece in enumerate(slices):
        both = piece.prefill.keys() & piece.decode.keys()
        members = len(piece.prefill) + len(piece.decode) - len(both)
        for phase, works in enumerate((piece.prefill, piece.decode)):
            for name, work in works.items():
                at.append(number)
                call.append(position.get(name, len(calls)))
                decode.append(bool(phase))
                equal.append((0.5 if name in both else 1.0) / members)
                tokens.append(work.tokens)
                attended.append(work.attended)
                again.append(work.again / work.tokens if work.again else 0.0)
    start_s = np.array([piece.start_s for piece in slices], dtype=np.float64)
    end_s = np.array([piece.end_s for piece in slices], dtype=np.float64)
    idle = np.array([piece.idle for piece in slices], dtype=bool)
    steps = np.array([piece.steps for piece in slices], dtype=np.float64)
    where, late = np.array(at, dtype=np.intp), np.array(decode, dtype=bool)
    shares, counts, pairs, twice = (np.array(v, dtype=np.float64) for v in (equal, tokens, attended, again))
    owed = np.zeros((len(where), len(TERMS)))
    owed[:, STEP] = steps[where] * shares
    owed[late, DECODE], owed[late, DECODE_ATTENDED] = counts[late], pairs[late]
    owed[~late, PREFILL], owed[~late, PREFILL_ATTENDED] = counts[~late], pairs[~late]
    # Whoever brings a prompt makes a step one that holds prompts, which engines launch without CUDA graphs.
    prompts = np.bincount(where[~late], minlength=len(slices))
    owed[~late, PROMPT_STEP] = steps[where[~late]] / prompts[where[~late]]
    features = np.zeros((len(slices), len(TERMS)))
    for term in range(len(TERMS)):
        features[:, term] = np.bincount(where, owed[:, term], minlength=len(slices))
    features[:, STEP] = np.where(idle, 0.0, steps)
    features[:, IDLE] = np.where(idle, end_s - start_s, 0.0)
    plain = Ledger(start_s, end_s, idle, features, where, np.array(call, dtype=np.intp), late, shares, owed, twice)
    return with_experts(plain, asleep) if asleep else plain


def with_experts(book: Ledger, asleep: float) -> Ledger:
    """The same of a model of whose experts a token leaves each asleep with this chance."""
    tokens, steps = book.owed[:, DECODE] + book.owed[:, PREFILL], book.features[book.at, STEP]
    per_step = np.where(steps > 0.0, tokens / np.where(steps > 0.0, steps, 1.0), 0.0)
    owed, features = book.owed.copy(), book.features.copy()
    owed[:, EXPERTS] = woken(per_step, book.at, len(book.idle), asleep) * steps
    features[:, EXPERTS] = np.bincount(book.at, owed[:, EXPERTS], minlength=len(book.idle))
    return replace(book, owed=owed, features=features)
