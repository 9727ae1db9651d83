"""Why the best configuration takes other joules than the one that it is compared with."""

from __future__ import annotations

from functools import partial

from rejoule.analysis.causes import Causes, causes
from rejoule.analysis.causes.result import Piece, unsure_notes
from rejoule.analysis.comparison.change import MARGIN
from rejoule.analysis.pairing import pair
from rejoule.analysis.pictures.waterfall import waterfall
from rejoule.analysis.report.badge import badge
from rejoule.analysis.report.markup import Field, box, listed, paragraph, scrolled, table
from rejoule.analysis.report.material import Material
from rejoule.analysis.summary.cells import Cell, Workload
from rejoule.analysis.summary.units import UNKNOWN, amount, change, signed
from rejoule.traces.errors import RejouleError


def html(material: Material) -> str | None:
    """A waterfall a workload, from the default (or the most joules) to the least; nothing where they are the same."""
    return "".join(filter(None, map(_one, material.workloads))) or None


def _one(workload: Workload) -> str:
    best, other = workload.best, workload.default or workload.worst
    if other is best:
        other = workload.worst
    if best is None or other is None or other is best:
        return ""
    try:
        pairs = pair([s.run for s in other.trials], [s.run for s in best.trials])
    except RejouleError as error:
        return paragraph(f"{workload.name}: {error.what}", "note")
    found = causes(pairs)
    if found is None or abs(found.delta_j) <= MARGIN * found.a_j:
        return ""
    return _drawn(workload, other, best, found)


def _drawn(workload: Workload, other: Cell, best: Cell, found: Causes) -> str:
    bars = [(cause.words, cause.joules, cause.half_width_j) for cause in found.causes]
    picture = waterfall(other.label, found.a_j, best.label, found.b_j, bars)
    pieces = found.told()
    reasons = [*(f"{cause.words}: {cause.reason}" for cause in found.causes if cause.reason), *unsure_notes(pieces)]
    drawn = scrolled(picture.svg, picture.title, "scroll drawn")
    heads = ("node", "cause", "Δ", "± 95 %", f"of {other.label}")
    nodes = table(heads, map(partial(_row, found.a_j), pieces), "causes by node")
    said = (
        paragraph(found.sentence(), "lead")
        + drawn
        + nodes
        + listed([*reasons, *(found.notes if pieces else ())], "notes")
    )
    source = badge(s.run for cell in (other, best) for s in cell.trials)
    return box(f"{workload.name}: {picture.title}", said, source, picture.note, wide=True, save=True)


def _row(a_j: float, piece: Piece) -> tuple[Field, ...]:
    half_j = piece.half_width_j
    width = UNKNOWN if half_j is None else f"±{amount(half_j, 'J')}"
    said = f"{signed(piece.joules, 'J')}{' (unclear)' if piece.unclear else ''}"
    share = piece.joules / a_j
    return piece.line, piece.cause, (said, piece.joules), (width, half_j), (change(share), share)
