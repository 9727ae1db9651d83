"""What trials will be able to show, said before they are made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rejoule.traces import RejouleError
from rejoule.traces.run import Configuration
from rejoule.traces.runs import load_runs
from rejoule.traces.student import CHANCE, MOST_PAIRS, detectable, pairs_needed
from rejoule.traces.trials import ASKED, H200_SPREAD, LEAD_LEVEL, paired_spread, trial_spread


def outlook(configurations: Sequence[Configuration], trials: int, folder: Path) -> Iterator[str]:
    """A line on what a diff of two of these configurations can find, by how trials in the folder differed so far."""
    if len(set(map(str, configurations))) < 2 and trials < 2:
        return
    if all(c.engine == "sim" for c in configurations):
        if trials > 1:
            yield "trials of the simulated engine are equal: one shows as much as several"
        return
    found = _spread_so_far(folder)
    spread = paired_spread(H200_SPREAD if found is None else found[0])
    source = (
        f"trials of an H200 spread by {100 * H200_SPREAD:.1f} %; of yours nothing is known yet"
        if found is None
        else f"trials in {folder} spread by {100 * found[0]:.1f} %"
    )
    needed = ", ".join(
        f"{100 * change:.0f} % takes {pairs if pairs is not None else f'more than {MOST_PAIRS}'}"
        for change, pairs in ((change, pairs_needed(change, spread, LEAD_LEVEL)) for change in ASKED)
    )
    seen = "one trial shows no difference of joules, however large"
    if trials > 1:
        least = 100 * detectable(spread, trials, LEAD_LEVEL)
        seen = f"{trials} trials find an increase of {least:.1f} % in joules in {100 * CHANCE:.0f} of 100 cases"
    yield f"{seen} ({source}); {needed} trials"


def _spread_so_far(folder: Path) -> tuple[float, int] | None:
    try:
        return trial_spread(load_runs(folder).runs)
    except RejouleError:
        return None
