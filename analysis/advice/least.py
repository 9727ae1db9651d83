"""What the advised configuration has the least of: joules a workflow, or joules a success."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, get_args

from rejoule.analysis.summary.words import metric_named
from rejoule.traces.errors import RejouleError

Least = Literal["joules.workflow", "joules.success"]
A_WORKFLOW: Final[Least] = "joules.workflow"
A_SUCCESS: Final[Least] = "joules.success"
PER: Final[Mapping[Least, str]] = {A_WORKFLOW: "a workflow", A_SUCCESS: "a success"}


def least(word: str) -> Least:
    """By its short word or as tables call it. Raises RejouleError for any other figure."""
    name = metric_named(word).name
    found = next((one for one in PER if metric_named(one).name == name), None)
    if found is None:
        raise RejouleError(
            f"nothing is advised for the least of '{word}'",
            f"choose {' or '.join(get_args(Least))}, and bound other figures with --slo",
        )
    return found
