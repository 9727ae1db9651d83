"""A judge of attributed joules: runs of an engine whose costs the tool does not know, their truth by sampled Shapley
shares, and how often what the tool states is so. See ``python -m benchmarks.judge --help``."""
