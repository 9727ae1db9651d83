"""The commands that read runs: ``energy``, ``diff``, ``report``, ``validate``."""
