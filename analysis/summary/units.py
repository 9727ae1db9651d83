"""Numbers as people read them; what is not known is a dash, never a zero."""

from __future__ import annotations

from math import floor, inf, log10
from typing import overload

from rejoule.traces.words import in_percent

UNKNOWN = "–"
INFINITE = "∞"

_PREFIXED = {"J": ((1e6, "MJ"), (1e3, "kJ"), (1.0, "J"), (1e-3, "mJ")), "s": ((1.0, "s"), (1e-3, "ms"))}


NOTHING = 1e-6
"""Of the smallest unit of a quantity: what is less is rounding."""


def amount(value: float | None, unit: str) -> str:
    """Three significant digits with a unit of fitting size: ``1.24 kJ``, ``86 ms``, ``12,400 tokens``, ``0.98``.

    A share is shown in per cent: ``60.0 %``.
    """
    if value is None:
        return UNKNOWN
    if abs(value) == inf:
        return f"{'' if value > 0.0 else '−'}{INFINITE}\N{NO-BREAK SPACE}{unit}".rstrip()
    if unit == "share":
        return f"{digits(100.0 * value)} %"
    if unit == "tokens":
        return f"{value:,.0f}"
    size = abs(value)
    scales = _PREFIXED.get(unit, ((1.0, unit),))
    # 999.6 J reads 1.00 kJ: the prefix is chosen after rounding.
    factor, name = next((s for s in scales if float(f"{size / s[0]:.3g}") >= 1.0), scales[-1])
    if size < NOTHING * factor:
        value, factor, name = 0.0, 1.0, unit
    return f"{digits(value / factor)}\N{NO-BREAK SPACE}{name}".rstrip()


def signed(value: float, unit: str) -> str:
    return ("+" if value > 0.0 else "−" if value < 0.0 else "") + amount(abs(value), unit)


def percent(share: float | None) -> str:
    """``0.413`` as ``41 %``; below a tenth with one decimal."""
    return UNKNOWN if share is None else in_percent(share)


def change(share: float | None) -> str:
    """``−41.3 %``: a relative change with its sign."""
    if share is None:
        return UNKNOWN
    shown = f"{100.0 * abs(share):.1f} %"
    return shown if shown == "0.0 %" else ("+" if share > 0.0 else "−") + shown


def interval(low: float, high: float) -> str:
    """``−41.3 … −40.1 %``: between two relative changes."""
    return f"{change(low).removesuffix(' %')} … {change(high)}"


def digits(value: float) -> str:
    """Three significant digits, without an exponent; thousands are set apart."""
    size = abs(value)
    if size == 0.0:
        return "0"
    for bound, decimals in ((99.95, 0), (9.995, 1), (0.9995, 2), (0.09995, 3)):
        if size >= bound:
            return f"{value:,.{decimals}f}"
    return f"{value:.{2 - floor(log10(size))}f}"


@overload
def rounded(value: float, significant: int = 5) -> float: ...
@overload
def rounded(value: float | None, significant: int = 5) -> float | None: ...
def rounded(value: float | None, significant: int = 5) -> float | None:
    """Short enough to keep a page small, long enough not to be seen."""
    return None if value is None else float(f"{value:.{significant}g}")
