"""Recorded workflows and measured runs: the stored truth that every other package reads."""
