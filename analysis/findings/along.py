"""A finding asked along its knob, at every setting of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rejoule.analysis.findings.effect import UnknownError
from rejoule.analysis.findings.finding import Finding
from rejoule.analysis.findings.lacking import one_value
from rejoule.analysis.findings.place import Place, Series
from rejoule.analysis.findings.reading import Reading, unknown


def along(finding: Finding, places: Sequence[Place], read: Callable[[Finding, Series], Reading]) -> Iterator[Reading]:
    """What ``read`` says of each series; where it raises UnknownError, or none is there, that it cannot be told."""
    for place in places:
        if not place.matches(finding.where):
            continue
        found = place.series(finding.knob, finding.where)
        if not found:
            yield unknown(place.name, "", one_value(finding.knob))
        for series in found:
            try:
                yield read(finding, series)
            except UnknownError as reason:
                yield unknown(place.name, series.held, str(reason))
