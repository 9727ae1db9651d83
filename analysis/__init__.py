"""Says where the energy of runs went, and why two configurations differ."""
