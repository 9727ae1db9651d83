"""Pictures of runs as SVG, for the page and for files: each names what it shows, what of, and what it leaves out."""

from rejoule.analysis.pictures.picture import Picture, standalone

__all__ = ["Picture", "standalone"]
