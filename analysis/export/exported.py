"""What a format makes of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rejoule.analysis.summary.naming import source_label
from rejoule.traces.modelled import modelled_notes
from rejoule.traces.refused import Refused
from rejoule.traces.run import Run
from rejoule.traces.runs import RunFolder


@dataclass(frozen=True, slots=True)
class Source:
    """The runs of a folder that were asked for."""

    folder: RunFolder
    runs: Sequence[Run]
    refused: Sequence[Refused]

    @property
    def notes(self) -> tuple[str, ...]:
        """Whose joules these are, what is not measured of them, and what is left out: said with every format."""
        return (f"energy: {source_label(self.runs)}", *modelled_notes(self.runs), *self.left_out)

    @property
    def left_out(self) -> tuple[str, ...]:
        """What the folder has or was to have besides these runs."""
        planned, here = len(self.folder.experiment.runs), len(self.folder.runs)
        found = []
        if len(self.runs) < here:
            found.append(f"{here - len(self.runs)} of {here} runs were not asked for")
        if here < planned:
            found.append(f"{planned - here} of {planned} planned runs are not there")
        found += [f"{one.run}: {one.reason}" for one in self.refused]
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Exported:
    """Contents by a file's name; one file goes to the path that was given, several into a folder of that name."""

    files: Mapping[str, bytes]
    notes: tuple[str, ...] = field(default=())
    """Whose joules these are, and what was left out; they are in the files, too."""
    single: bool = False
