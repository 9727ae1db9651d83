"""Counts as people read them."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """``1 call``, ``12,400 calls``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
