"""The label that goes with every joule on the page."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from rejoule.analysis.summary.naming import source_label
from rejoule.traces.run import Run


def badge(runs: Iterable[Run]) -> str:
    """Whether the joules were measured or modelled, and by what."""
    label = source_label(runs)
    kind = "modelled" if "modelled" in label else "measured" if "measured (" in label else "unknown"
    short = label.replace("(model:", "(").replace(" (", " · ").replace(")", "")
    return f'<span class="badge {kind}" title="{escape(label)}">{escape(short)}</span>'
