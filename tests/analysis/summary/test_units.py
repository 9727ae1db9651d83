from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rejoule.analysis.summary.units import amount, change, percent, signed
from rejoule.traces.words import counted


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (None, "J", "–"),
        (0.0, "J", "0 J"),
        (4.6e-15, "J", "0 J"),
        (0.0123, "J", "12.3 mJ"),
        (999.6, "J", "1.00 kJ"),
        (1234.0, "J", "1.23 kJ"),
        (2.5e6, "J", "2.50 MJ"),
        (0.086, "s", "86.0 ms"),
        (95.44, "s", "95.4 s"),
        (1234.0, "s", "1,234 s"),
        (300.0, "W", "300 W"),
        (12400.0, "tokens", "12,400"),
        (0.995, "share", "99.5 %"),
        (float("inf"), "J", "∞ J"),
    ],
)
def test_amounts(value: float | None, unit: str, shown: str) -> None:
    """Three significant digits in a unit of fitting size, and a dash for what is not known."""
    assert amount(value, unit).replace("\N{NO-BREAK SPACE}", " ") == shown


@settings(deadline=None)
@given(st.floats(1e-3, 1e9), st.sampled_from(["J", "s", "W"]))
def test_amounts_keep_their_size(value: float, unit: str) -> None:
    """Reading an amount back gives the value to within half a percent."""
    number, name = amount(value, unit).split("\N{NO-BREAK SPACE}")
    factor = {"MJ": 1e6, "kJ": 1e3, "mJ": 1e-3, "ms": 1e-3}.get(name, 1.0)
    assert float(number.replace(",", "")) * factor == pytest.approx(value, rel=0.006)


def test_shares_and_signs() -> None:
    """Changes carry a sign unless they round to nothing."""
    assert (percent(0.413), percent(0.056), percent(0.0), percent(None)) == ("41 %", "5.6 %", "0 %", "–")
    assert (percent(-0.39), percent(-0.056), percent(-1e-6)) == ("−39 %", "−5.6 %", "0.0 %")
    assert (change(-0.4132), change(0.02), change(-1e-6), change(None)) == ("−41.3 %", "+2.0 %", "0.0 %", "–")
    assert signed(-1500.0, "J") == "−1.50\N{NO-BREAK SPACE}kJ"
    assert (counted(1, "call"), counted(0, "call"), counted(12400, "call")) == ("1 call", "0 calls", "12,400 calls")
