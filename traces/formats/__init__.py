"""Traces that other tools wrote."""
