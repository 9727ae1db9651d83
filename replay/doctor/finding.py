"""One line of the doctor's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Finding:
    topic: str
    ok: bool | None
    """``None`` where it is neither well nor ill."""
    found: str
    """A sentence."""
    remedy: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    """The same for machines; what is not known is ``None``."""
