"""The pictures: a tab a workload."""

from __future__ import annotations

from html import escape
from typing import Any

import orjson

from rejoule.analysis.report.cell_data import cell_data
from rejoule.analysis.report.maps import map_data
from rejoule.analysis.report.material import Material
from rejoule.analysis.report.panel import panel


def html(material: Material) -> str:
    """Tabs, panels, and what the script shows in them."""
    keyed = {f"w{i}": workload for i, workload in enumerate(material.workloads)}
    maps = {key: found for key, workload in keyed.items() if (found := map_data(workload)) is not None}
    timelines: dict[str, Any] = {}
    panels = [panel(key, w, key in maps, timelines, hidden=key != "w0") for key, w in keyed.items()]
    cells = {key: [cell_data(w, cell) for cell in w.cells] for key, w in keyed.items()}
    # A '</script' in the data would end its element, and a '<!--' change how a browser reads what follows.
    data = orjson.dumps({"cells": cells, "maps": maps, "timelines": timelines}).decode().replace("<", "\\u003c")
    tabs = "".join(_tab(key, w.name, key == "w0") for key, w in keyed.items())
    return (
        f'<div class="tabs" role="tablist" aria-label="Workloads">{tabs}</div>{"".join(panels)}'
        f'<script type="application/json" id="data">{data}</script>'
    )


def _tab(key: str, name: str, selected: bool) -> str:
    state, stop = ("true", "0") if selected else ("false", "-1")
    return (
        f'<button role="tab" id="{key}-tab" title="{escape(name)}" aria-selected="{state}" aria-controls="{key}" '
        f'tabindex="{stop}" data-panel="{key}"><span>{escape(name)}</span></button>'
    )
