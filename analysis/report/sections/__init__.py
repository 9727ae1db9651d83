"""The sections of the page, in the order in which they are read.

A section is a file with ``html(material)``: markup, or ``None`` when it has nothing to say, and then the page has no
heading for it. To add one, write the file and name it in ``ORDER``; `rejoule.analysis.report.markup` has lists, tables
and boxes that take text and give markup.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rejoule.analysis.report.material import Material
from rejoule.analysis.report.sections import advice, answer, causes, evidence, findings, pictures, sensitivity


@dataclass(frozen=True, slots=True)
class Section:
    key: str
    """Its place in the page's address."""
    title: str
    html: Callable[[Material], str | None]


ORDER: Final = (
    Section("answer", "The answer", answer.html),
    Section("causes", "Why", causes.html),
    Section("sensitivity", "What moves it", sensitivity.html),
    Section("findings", "Known findings", findings.html),
    Section("advice", "What to set", advice.html),
    Section("pictures", "Pictures", pictures.html),
    Section("evidence", "Evidence", evidence.html),
)
