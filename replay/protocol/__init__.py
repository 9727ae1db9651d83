"""The measuring protocol: what is done around a run on a real engine, and whether its joules can be used."""
