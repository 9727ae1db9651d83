"""Environment variables by which measuring is steered."""

from __future__ import annotations

from typing import Final

FAKE: Final = "REJOULE_FAKE_NVML"
"""Names the folder of stand-in GPUs that take the driver's place."""
