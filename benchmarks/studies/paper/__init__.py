"""The set-up of arXiv 2604.09611, as far as it is known, on the simulated engine."""
