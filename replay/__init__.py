"""Sends a trace to an engine again, exactly, and measures what it cost."""
