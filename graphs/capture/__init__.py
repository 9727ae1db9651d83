"""Exact capture of live LangGraph runs: every LLM call, where in the graph it was made, and what it waited for."""

from rejoule.graphs.capture.net import Net
from rejoule.graphs.capture.recording import Judge, Recording
from rejoule.graphs.capture.rewrite import Rewrite
from rejoule.graphs.capture.server import ServerInfo, probe

__all__ = ["Judge", "Net", "Recording", "Rewrite", "ServerInfo", "probe"]
