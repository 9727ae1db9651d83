"""Which runs may be compared with which."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from rejoule.analysis.summary.naming import is_foreign, varying
from rejoule.traces.engine_options import DEFAULTS
from rejoule.traces.errors import RejouleError
from rejoule.traces.run import OPTION, Configuration, Run, knobs
from rejoule.traces.warmth import REMEDY as WARMTH
from rejoule.traces.warmth import unlike


@dataclass(frozen=True, slots=True)
class Pair:
    """The same trace and trial under two configurations."""

    a: Run
    b: Run


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A run that the other side has no counterpart of."""

    side: str
    trace: str
    trial: int
    run: str


class Pairs(tuple[Pair, ...]):
    """Pairs, and the runs that found none."""

    left_out: tuple[LeftOut, ...] = ()


def parse_filters(words: Iterable[str]) -> dict[str, Any]:
    """``max_num_seqs=64`` as a knob and its value; values are JSON, or else plain text.

    A word may hold several, as in ``max_num_seqs=1,power_cap_w=300``, and a knob may be called as ``rejoule replay``
    calls its option.
    """
    filters: dict[str, Any] = {}
    for word in (part for given in words for part in _NEXT.split(given)):
        name, equals, text = (part.strip() for part in word.partition("="))
        name = _knob_name(name)
        if not equals or not name:
            raise RejouleError(f"'{word}' selects nothing", "write KNOB=VALUE, such as max_num_seqs=64")
        _add(filters, name, _parsed(text))
    return filters


def _add(filters: dict[str, Any], name: str, wanted: Any) -> None:
    """Raises RejouleError where the knob is to have another value already: no run has both."""
    if filters.setdefault(name, wanted) != wanted:
        raise RejouleError(
            f"{name} is to be {_word(filters[name])} and {_word(wanted)}", "choose one value of a knob at a time"
        )


def parse_values(words: Iterable[str]) -> dict[str, list[Any]]:
    """``max_num_seqs=1,8,64`` as a knob and its values, named and spelt as in ``parse_filters``."""
    found: dict[str, list[Any]] = {}
    for word in words:
        name, equals, text = (part.strip() for part in word.partition("="))
        if not equals or not name or not text:
            raise RejouleError(f"'{word}' has no values", "write KNOB=V1,V2, such as max_num_seqs=2,4,16")
        parts = [part.strip() for part in text.split(",")]
        found.setdefault(_knob_name(name), []).extend(map(_parsed, parts))
    return found


def _parsed(text: str) -> Any:
    if text in _SPELT:
        return _SPELT[text]
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


_NEXT: Final = re.compile(r",(?=\s*[A-Za-z][\w.-]*=)")
_SPELT: Final = {"None": None, "none": None, "True": True, "False": False}
"""How tables print what JSON spells otherwise."""
_OPTIONS: Final = {"power_cap": "power_cap_w", "sm_clock": "sm_clock_mhz", "edges": "edge_set"}


_GROUPS: Final = (OPTION, "policy_options.")
_DEFAULTS: Final = frozenset(f"{OPTION}{name}" for name in DEFAULTS)


def _knob_name(given: str) -> str:
    if given.startswith(_GROUPS):
        return given
    name = _plain(given)
    return f"{OPTION}{name}" if name in DEFAULTS else _OPTIONS.get(name, name)


def called(given: str, names: Collection[str]) -> tuple[str, ...]:
    """Those of ``names`` that a knob may be meant by: its own, or else options of the engine or of a policy, which are
    called so without their group, too."""
    if given in names:
        return (given,)
    return tuple(n for n in names if n.startswith(_GROUPS) and _plain(n.partition(".")[2]) == _plain(given))


def meant(given: str, names: Collection[str]) -> str:
    """The one that is ``called`` so. Raises RejouleError where there is none, or several."""
    found = called(given, names)
    if not found:
        raise RejouleError(f"no run has a knob '{given}'", f"choose among {', '.join(sorted(names))}")
    if len(found) > 1:
        raise RejouleError(f"'{given}' is {' and '.join(found)}", f"name one of them as it is here, as in {found[0]}=…")
    return found[0]


def _plain(name: str) -> str:
    """As an option is called in Python, however a command line spells it."""
    return name.lstrip("-").replace("-", "_")


def select(runs: Sequence[Run], filters: Mapping[str, Any]) -> tuple[Run, ...]:
    """The runs whose configuration, or ``trace``, has these values; knobs are named as ``called`` takes them."""
    names = dict.fromkeys(name for run in runs for name in knobs(run.configuration))
    if not any(is_foreign(run.configuration) for run in runs):
        # What nobody gave is at its default in all of them.
        names |= dict.fromkeys(name for name in filters if name in _DEFAULTS)
    chosen_by: dict[str, Any] = {}
    for name, wanted in filters.items():
        _add(chosen_by, meant(name, (*names, "trace")), wanted)
    settings = [{name: setting(run.configuration, name) for name in names} | {"trace": run.trace} for run in runs]
    for name, wanted in chosen_by.items():
        held = {str(found[name]): found[name] for found in settings}
        if wanted not in held.values():
            raise RejouleError(f"no run has {name}={_word(wanted)}", f"its values here are {_listed(held.values())}")
    chosen = tuple(
        run
        for run, found in zip(runs, settings, strict=True)
        if all(found[name] == wanted for name, wanted in chosen_by.items())
    )
    if not chosen:
        wish = ", ".join(f"{name}={_word(wanted)}" for name, wanted in chosen_by.items())
        raise RejouleError(f"no run has {wish} together", "leave one of them out")
    return chosen


def choices(runs: Sequence[Run]) -> str:
    """The knobs that tell these runs apart, with their values: ``max_num_seqs is 1, 8; power_cap_w is none, 300``.

    ``select`` takes each of them.
    """
    held = [run.configuration for run in runs]
    return "; ".join(f"{name} is {_listed(setting(one, name) for one in held)}" for name in varying(held))


def setting(configuration: Configuration, name: str) -> Any:
    """A knob's value, as it is told and chosen by; of an option of the engine that was not given, its default."""
    value = knobs(configuration).get(name)
    return DEFAULTS.get(name.removeprefix(OPTION)) if value is None and name.startswith(OPTION) else value


def pair(
    a: Sequence[Run], b: Sequence[Run], *, allow_different_work: bool = False, allow_modelled: bool = False
) -> Pairs:
    """Pair runs by trace and trial, and refuse those that did not do the same work or whose joules differ in kind."""
    side_a, side_b = _by_trial(a, "A"), _by_trial(b, "B")
    pairs = Pairs(Pair(side_a[key], side_b[key]) for key in side_a if key in side_b)
    pairs.left_out = (*_left_out("A", side_a, side_b), *_left_out("B", side_b, side_a))
    if not pairs:
        raise RejouleError(
            "no run of A has the trace and trial of a run of B", f"A has {_keys(side_a)}; B has {_keys(side_b)}"
        )
    for found in pairs:
        if not allow_different_work:
            _same_work(found)
        if not allow_modelled:
            _same_kind(found)
    return pairs


def in_turns(order: Sequence[str], pairs: Sequence[Pair]) -> bool:
    """Whether runs of A and of B took turns, by the order of an experiment's runs; one pair does so anyhow."""
    place = {run: i for i, run in enumerate(order)}
    for trace in dict.fromkeys(p.a.trace for p in pairs):
        mine = [p for p in pairs if p.a.trace == trace]
        a, b = ([place[run.id] for run in side] for side in ([p.a for p in mine], [p.b for p in mine]))
        if len(mine) > 1 and (max(a) < min(b) or max(b) < min(a)):
            return False
    return True


def same_runs(a: Run, b: Run) -> bool:
    """Whether both sides of a pair are one measurement."""
    return a is b or (a.id, a.energy, a.makespan_s, a.calls) == (b.id, b.energy, b.makespan_s, b.calls)


def _left_out(name: str, side: Mapping[tuple[str, int], Run], other: Iterable[tuple[str, int]]) -> Iterable[LeftOut]:
    there = set(other)
    return [LeftOut(name, *key, run.id) for key, run in side.items() if key not in there]


def _by_trial(runs: Sequence[Run], side: str) -> dict[tuple[str, int], Run]:
    found: dict[tuple[str, int], Run] = {}
    for run in runs:
        key = (run.trace, run.trial)
        if key in found:
            raise RejouleError(
                f"side {side} holds several configurations of {run.trace}",
                f"choose one with --{side.lower()} KNOB=VALUE: {choices(runs) or 'the same run is given twice'}",
            )
        found[key] = run
    return dict(sorted(found.items()))


def _first_difference(found: Pair) -> str:
    work = [{c.id: (c.prompt_digest, c.output_digest) for c in run.calls} for run in (found.a, found.b)]
    for call in sorted(work[0].keys() | work[1].keys()):
        a, b = (side.get(call) for side in work)
        if a is None or b is None:
            return f", first {call}, which {'A' if a is None else 'B'} did not do"
        if a != b:
            return f", first in the {'prompt' if a[0] != b[0] else 'answer'} of {call}"
    return ""


def _same_work(found: Pair) -> None:
    a, b = found.a.certificate, found.b.certificate
    place = f"{found.a.trace}, trial {found.a.trial}"
    if a.tier != b.tier:
        raise RejouleError(
            f"{place}: A is certified for {a.tier}, B for {b.tier}",
            "replay both at the same tier, or pass --allow-different-work",
        )
    if a.digest != b.digest:
        raise RejouleError(
            f"{place}: the certificates disagree, so A and B did different work{_first_difference(found)}",
            "replay the same trace with the same lengths, or pass --allow-different-work",
        )
    if (why := unlike(found.a, found.b)) is not None:
        raise RejouleError(f"{place}: {why}: they did different work", f"{WARMTH}, or pass --allow-different-work")
    for side, certificate in (("A", a), ("B", b)):
        if certificate.violations:
            raise RejouleError(
                f"{place}: {side} is not the run that it should be: {certificate.violations[0]}",
                "replay it again, or pass --allow-different-work",
            )
    if a.order and b.order and a.order != b.order and not reordered(found):
        raise RejouleError(
            f"{place}: the certificates disagree, so the calls of A and B had to wait for different ones",
            "replay the same trace, or pass --allow-different-work",
        )


def reordered(found: Pair) -> bool:
    """Whether the sides were asked to keep different edges, so that an unequal order is what is compared."""
    return found.a.configuration.edge_set != found.b.configuration.edge_set


def _same_kind(found: Pair) -> None:
    if None in (found.a.energy.gpu_j, found.b.energy.gpu_j) or found.a.measured == found.b.measured:
        return
    modelled = "B" if found.a.measured else "A"
    raise RejouleError(
        f"{found.a.trace}: the joules of {modelled} are modelled, the other side's are measured",
        "compare like with like, or pass --allow-modelled",
    )


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys(map(_word, values)))


def _word(value: Any) -> str:
    """As short as it can be given, and read as what it is."""
    text = "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    return text if parse_filters([f"knob={text}"]) == {"knob": value} else orjson.dumps(value).decode()


def _keys(side: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{trace} trial {trial}" for trace, trial in side)
