"""Real local tools of the workflows: full-text search, and running code in confinement."""
