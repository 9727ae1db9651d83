"""Four real agent workflows, as LangGraph builders that call the OpenAI client they are given.

Importing this package loads none of them: ``load`` does, by name.
"""

from rejoule.graphs.workloads.settings import settings_from
from rejoule.graphs.workloads.workload import WORKLOADS, Workload, load

__all__ = ["WORKLOADS", "Workload", "load", "settings_from"]
