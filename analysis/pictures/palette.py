"""Colours by name, in light and dark; pictures name them as variables of a style sheet.

Series differ in lightness as well as in hue, so that neighbours stay apart for people with any common kind of colour
blindness; ordered values are shades of one hue.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_SERIES: Final = ("#0b7a75", "#3b6fb6", "#c8553d", "#8a6fb3", "#d79a2b", "#5fa8d3", "#7a8450", "#b56a92")
_DARK_SERIES: Final = ("#3fb8ae", "#6f9fe0", "#e5826b", "#b19ad9", "#e8b955", "#8cc8ea", "#a9b578", "#d794b6")
_RAMP: Final = ("#a9cfe4", "#7cb3d2", "#4f96bf", "#2f78a5", "#1f5a84", "#133d5e")
_DARK_RAMP: Final = ("#3a6f92", "#4483aa", "#5499c3", "#74b3d9", "#a0cee9", "#d3eaf6")
_HEAT: Final = ("#eef6f4", "#cfe6e1", "#a8d2ca", "#78b8ae", "#45998f")
_DARK_HEAT: Final = ("#1a2b2b", "#1d3f3d", "#205552", "#256d68", "#2b8880")


def _numbered(name: str, colours: tuple[str, ...]) -> dict[str, str]:
    return {f"{name}-{i}": colour for i, colour in enumerate(colours)}


LIGHT: Final[Mapping[str, str]] = {
    "page": "#f7f8f8",
    "surface": "#ffffff",
    "raised": "#ffffff",
    "line": "#dde2e3",
    "grid": "#eceff0",
    "ink": "#14181a",
    "ink-2": "#475054",
    "ink-3": "#667176",
    "accent": "#0b7a75",
    "accent-soft": "#e3f2f0",
    "level": "#e9eded",
    "good": "#0b6f6a",
    "warn": "#8a5200",
    "warn-soft": "#fdf3e1",
    "bad": "#a8322a",
    "bad-soft": "#fcebe9",
    "idle": "#bcc5c8",
    "queue": "#ccd4d8",
    "prefill": "#3b6fb6",
    "decode": "#0b7a75",
    "tool": "#c9a961",
    "power": "#c8661a",
    "bound": "#f3d3cf",
    **_numbered("series", _SERIES),
    **_numbered("ramp", _RAMP),
    **_numbered("heat", _HEAT),
}
DARK: Final[Mapping[str, str]] = {
    "page": "#0f1213",
    "surface": "#171b1d",
    "raised": "#22282a",
    "line": "#2f373a",
    "grid": "#242b2e",
    "ink": "#edf1f1",
    "ink-2": "#b5bfc2",
    "ink-3": "#8d989c",
    "accent": "#3fc1b4",
    "accent-soft": "#15302d",
    "level": "#262d30",
    "good": "#4cc9bb",
    "warn": "#e9b455",
    "warn-soft": "#2d2413",
    "bad": "#f0918a",
    "bad-soft": "#351d1a",
    "idle": "#4b5559",
    "queue": "#414b4f",
    "prefill": "#6f9fe0",
    "decode": "#35a89b",
    "tool": "#a98d4d",
    "power": "#e79a4c",
    "bound": "#4a2826",
    **_numbered("series", _DARK_SERIES),
    **_numbered("ramp", _DARK_RAMP),
    **_numbered("heat", _DARK_HEAT),
}
SERIES: Final = len(_SERIES)


def series(index: int) -> str:
    """The index-th of several things; the last colour serves all beyond."""
    return f"var(--series-{min(index, SERIES - 1)})"


def ramp(index: int, count: int) -> str:
    """The index-th of some ordered values."""
    return f"var(--ramp-{round(5 * index / max(1, count - 1)) if count > 1 else 3})"


def heat(share: float) -> str:
    """From 0, the least, to 1."""
    return f"var(--heat-{min(len(_HEAT) - 1, int(share * len(_HEAT)))})"


def declared(colours: Mapping[str, str]) -> str:
    """As declarations of a style sheet."""
    return " ".join(f"--{name}: {colour};" for name, colour in colours.items())


def resolved(svg: str, colours: Mapping[str, str] = LIGHT) -> str:
    """A picture with its colours in place of their names, for readers without a style sheet."""
    return re.sub(r"var\(--([\w-]+)\)", lambda found: colours[found[1]], svg)
