"""When a measurement has settled: its last three values agree within 2 % (MLPerf and the field's sweeps wait alike)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

VALUES: Final = 3
TOLERANCE: Final = 0.02


def agree(values: Sequence[float | None]) -> bool:
    """Whether the last three values are known and no two differ by more than 2 % of their mean."""
    last = [v for v in values[-VALUES:] if v is not None]
    if len(last) < VALUES:
        return False
    return max(last) - min(last) <= TOLERANCE * abs(sum(last)) / VALUES
