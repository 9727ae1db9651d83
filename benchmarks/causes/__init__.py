"""Differences planted in runs, and whether their causes are found. See ``python -m benchmarks.causes --help``."""
