"""A profile from measurements: the trace to measure with, the fit, and what the fit is worth."""
