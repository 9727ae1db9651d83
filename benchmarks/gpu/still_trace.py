"""Writes a trace in which the GPU has next to nothing to do: one small call, a tool that takes its time, one more.

Usage: still_trace.py OUT SECONDS
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from benchmarks.gpu.uniform_trace import Kind, uniform_trace

from rejoule.traces import Trace
from rejoule.traces.model import Edge, ToolCall
from rejoule.traces.store import save


def still_trace(seconds: float) -> Trace:
    trace = uniform_trace([Kind("still", lanes=1, calls=2, prompt_tokens=64, output_tokens=8)])
    workflow = trace.workflows[0]
    first, last = workflow.calls
    end_ns = first.end_ns + round(seconds * 1e9)
    tool = ToolCall(f"{workflow.id}/w000", workflow.id, first.task, first.node, "nothing", first.end_ns, end_ns)
    last = replace(last, submit_ns=end_ns, end_ns=end_ns + 1)
    task = replace(workflow.tasks[0], end_ns=last.end_ns)
    edges = (Edge(first.id, tool.id, "observed"), Edge(tool.id, last.id, "observed"))
    whole = replace(workflow, end_ns=last.end_ns, tasks=(task,), calls=(first, last), tool_calls=(tool,), edges=edges)
    return replace(trace, workflows=(whole,))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    save(still_trace(float(sys.argv[2])), Path(sys.argv[1]))
