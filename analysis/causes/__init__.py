"""Why two configurations differ in joules: the difference of their energy, cause by cause."""

from rejoule.analysis.causes.found import causes
from rejoule.analysis.causes.result import Basis, Cause, Causes
from rejoule.analysis.causes.split import CAUSES, CauseName

__all__ = ["CAUSES", "Basis", "Cause", "CauseName", "Causes", "causes"]
