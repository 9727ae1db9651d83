"""What to set: the configuration with the least joules that keeps an objective, how sure that is, and what to run next.

::

    for found in advise(gather(runs, traces), objectives(["workflow.p99=20s"])):
        found.best, found.saving, found.confirm
"""

from rejoule.analysis.advice.advice import advise
from rejoule.analysis.advice.answer import Advice
from rejoule.analysis.advice.candidates import Candidate
from rejoule.analysis.advice.known import Estimate
from rejoule.analysis.advice.least import Least, least
from rejoule.analysis.advice.objective import Objective, objectives

__all__ = ["Advice", "Candidate", "Estimate", "Least", "Objective", "advise", "least", "objectives"]
