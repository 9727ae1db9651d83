"""Counts as people read them."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """``1 call``, ``12,400 calls``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def in_percent(share: float) -> str:
    """``0.413`` as ``41 %``; below a tenth with one decimal."""
    shown = 100.0 * share
    return f"{shown:.0f} %" if abs(shown) >= 9.95 or shown == 0.0 else f"{shown:.1f} %"
