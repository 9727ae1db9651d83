"""How late ReJoule's client sends its requests, in the kept runs of benchmarks/h200: python -m benchmarks.lateness.

Milliseconds from when a call may go out to when its request is sent, by folder and over all: the median of the runs'
medians (``client_lateness_s``), and the median of the calls, in which runs with many calls weigh more. A call that a
policy, a wave or a limit held may go out later than it is due; when is not stored by call, so such runs give their
medians alone. Calls that are due together wait for each other, as in grids, which send up to 256 at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median, median_low
from typing import Final

from benchmarks.validation import DATA

from rejoule.replay.engines.sim import LATE_S
from rejoule.traces.run import Run
from rejoule.traces.runs import load_runs

POLICIES: Final = "scheduling/policies"
ALIKE_S: Final = 1e-6
"""If a run's calls give another median than it states, some were held."""


def stated_s(run: Run) -> float | None:
    """Median over the run's calls, as its client measured it; ``None`` without a client."""
    return (run.engine.get("client_lateness_s") or {}).get("p50")


def calls_s(run: Run) -> list[float]:
    """Of each call; nothing of a run that held some, or without a client."""
    late_s, stated = [call.sent_s - call.due_s for call in run.calls], stated_s(run)
    return late_s if stated is not None and abs(median_low(late_s) - stated) < ALIKE_S else []


def row(name: str, runs: Sequence[Run]) -> str:
    each = [seconds for run in runs if (seconds := stated_s(run)) is not None]
    calls = [seconds for run in runs for seconds in calls_s(run)]
    return f"| {name} | {len(each)} | {_ms(each)} | {len(calls) or ''} | {_ms(calls)} |"


def kept() -> Mapping[str, Sequence[Run]]:
    """Measured runs by folder."""
    folders = sorted(path.parent for path in DATA.rglob("experiment.json"))
    return {folder.relative_to(DATA).as_posix(): load_runs(folder).runs for folder in folders}


def _ms(seconds: Sequence[float]) -> str:
    return f"{median(seconds) * 1e3:.2f}" if seconds else "–"


def main() -> None:
    runs = kept()
    print("| | runs | median of their medians, ms | calls | median, ms |\n| --- | --: | --: | --: | --: |")
    for name, each in runs.items():
        print(row(name, each))
    print(row("all", [run for each in runs.values() for run in each]))
    print(f"\nThe simulated client acts after {LATE_S * 1e3:.2f} ms; in {POLICIES} the median run's did after ", end="")
    print(f"{_ms([seconds for run in runs[POLICIES] if (seconds := stated_s(run)) is not None])} ms.")


if __name__ == "__main__":
    main()
