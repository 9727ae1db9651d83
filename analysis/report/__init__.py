"""``report.html``: one self-contained page of interactive pictures."""

from rejoule.analysis.report.page import render

__all__ = ["render"]
