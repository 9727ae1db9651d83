"""Constants of a GPU from measured grids of several models, judged: ``python -m benchmarks.sizes_measured --help``."""
