"""Which knob moves a figure, by how much, at which settings of the others, and which knob moves nothing.

::

    for found in sensitivities(folder.runs, folder.traces):
        found.effects[0].knob, found.effects[0].change
"""

from rejoule.analysis.sensitivity.effects import Effect, Verdict
from rejoule.analysis.sensitivity.interplay import Interplay
from rejoule.analysis.sensitivity.sensitivity import Sensitivity, sensitivities, sensitivities_of

__all__ = ["Effect", "Interplay", "Sensitivity", "Verdict", "sensitivities", "sensitivities_of"]
