"""PNG: the pictures of SVG, drawn by resvg."""

from __future__ import annotations

from pathlib import PurePath

from rejoule.analysis.export import svg_files
from rejoule.analysis.export.exported import Exported, Source
from rejoule.traces.errors import RejouleError

SCALE = 2


def export(source: Source) -> Exported:
    """At twice their size, for screens and slides. Raises RejouleError without resvg."""
    try:
        from resvg_py import svg_to_bytes
    except ImportError:
        raise RejouleError(
            "resvg is not installed", "install it: pip install 'rejoule[png]', or export --to svg"
        ) from None
    drawn = svg_files.export(source)
    files = {
        PurePath(name).with_suffix("").name + ".png": bytes(svg_to_bytes(svg_string=svg.decode(), zoom=SCALE))
        for name, svg in drawn.files.items()
    }
    return Exported(files, drawn.notes)
