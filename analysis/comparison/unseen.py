"""Whether a profile ever saw the card and the host that runs were measured on.

A profile states what it was fitted to, and so do runs that were simulated with it. Cards of one kind differ in their
joules and hosts in how fast they launch, so elsewhere a profile's figures are those of another machine. A card stays in
its host: where the card was seen, so was the host.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from rejoule.analysis.comparison.allowance import BETWEEN_CARDS, LEAD
from rejoule.analysis.summary.units import percent
from rejoule.traces.figures import tensor_parallel
from rejoule.traces.modelled import uncalibrated
from rejoule.traces.run import Run
from rejoule.traces.words import counted

OFFER: Final = "80 s of that server make a profile of its own: rejoule calibrate --quick"
SHOWN: Final = 12
"""Characters of a UUID, which tell cards apart."""
SIM: Final = "sim"


def unseen_notes(runs: Iterable[Run]) -> Iterator[str]:
    """A sentence for each profile among ``runs`` and what it did not see of those that were measured on a server."""
    simulated: dict[str, Run] = {}
    measured: list[Run] = []
    for run in runs:
        if run.configuration.engine == SIM:
            simulated[str(run.engine.get("profile"))] = run
        else:
            measured.append(run)
    if not measured:
        return
    for profile, run in simulated.items():
        if uncalibrated(run):
            # Of one GPU it may have been fitted, and put on several.
            several = tensor_parallel(run)
            what = "card, so to none" if several == 1 else f"{several} GPUs together, so not to those"
            yield f"{profile} was fitted to no {what} that these were measured on; {OFFER}"
        else:
            yield from _of_one(profile, run.engine.get("measured_on"), measured)


def _of_one(profile: str, seen: Mapping[str, Any] | None, measured: Sequence[Run]) -> Iterator[str]:
    if seen is None:
        yield f"what {profile} was fitted to is not said by these runs, which are of before that was told: {OFFER}"
        return
    cards, hosts = seen["gpus"], seen["hosts"]
    if not cards:
        yield (
            f"{profile} was fitted to no card that it names, so whether it saw those that these were measured on is "
            f"not known; {OFFER}"
        )
        return
    unseen: dict[str, None] = {}
    elsewhere: dict[str, None] = {}
    silent = 0
    for run in measured:
        around = run.conditions
        if around is None or not around.gpus:
            silent += 1
            continue
        strange = [gpu for gpu in around.gpus if gpu not in cards]
        unseen |= dict.fromkeys(strange)
        if strange and around.host and around.host not in hosts:
            elsewhere[around.host] = None
    where = f"it was fitted to {_cards(cards)}" + ("" if hosts else ", and names no host")
    if unseen:
        on = " and ".join(filter(None, (_cards(unseen), _hosts(elsewhere))))
        yield (
            f"{profile} never saw {on}, which these were measured on ({where}): three H200s differed by up to "
            f"{percent(BETWEEN_CARDS[LEAD])} in joules at the same work, and hosts differ in first tokens; {OFFER}"
        )
    if silent:
        yield (
            f"{silent} of {counted(len(measured), 'measured run')} did not record the card, so whether {profile} saw "
            f"it is not known ({where}); {OFFER}"
        )


def _cards(found: Iterable[str]) -> str:
    return ", ".join(gpu[:SHOWN] for gpu in found)


def _hosts(found: Iterable[str]) -> str:
    names = list(found)
    return f"the host{'s' if len(names) > 1 else ''} {', '.join(names)}" if names else ""
