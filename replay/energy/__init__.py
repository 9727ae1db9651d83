"""Meters: what measured the joules of a run, each with its source."""
