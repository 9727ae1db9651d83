"""Counts as people read them."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """``1 call``, ``12,400 calls``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def in_percent(share: float) -> str:
    """``0.413`` as ``41 %``, ``-0.05`` as ``−5.0 %``: below a tenth with one decimal, signed unless that is 0."""
    size = 100.0 * abs(share)
    shown = f"{size:.0f} %" if size >= 9.95 or size == 0.0 else f"{size:.1f} %"
    return f"−{shown}" if share < 0.0 and shown != "0.0 %" else shown
