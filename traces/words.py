"""Counts as people read them."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """``1 call``, ``12,400 calls``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def in_percent(share: float) -> str:
    """``0.413`` as ``41 %``, ``-0.05`` as ``−5.0 %``; below a tenth with one decimal."""
    shown = 100.0 * abs(share)
    return ("−" if share < 0.0 else "") + (f"{shown:.0f} %" if shown >= 9.95 or shown == 0.0 else f"{shown:.1f} %")
