"""What a graph failed of, where, and what it seems to have lacked, as far as its error tells."""

from __future__ import annotations

import re
from typing import Any, Final

from rejoule.graphs.situation import Situation
from rejoule.traces.model import Workflow

OF_ANSWERS: Final = re.compile(
    r"(\w+\.)*(JSONDecodeError|ValidationError|OutputParserException|StructuredOutput\w*|KeyError|IndexError|"
    r"ValueError|AttributeError|TypeError|SyntaxError|AssertionError|StopIteration|GraphRecursionError)\b"
)
"""Errors of code that reads an answer and finds something else in it than it looked for."""

OF_THREADS: Final = re.compile(r"main thread|same thread|different thread", re.IGNORECASE)


OF_STORES: Final = re.compile(r"'NoneType' object has no attribute '(a?search|a?put|a?list_namespaces|aget|adelete)'")
"""Errors of code that uses a store where there is none."""


def failure(workflow: Workflow) -> str:
    """What a workflow failed of, and in which node, the innermost, where a node raised it."""
    raised = [task.node for task in workflow.tasks if task.error == workflow.error]
    place = f" in {max(raised, key=lambda node: node.count('/'))}" if raised else ""
    return f"{workflow.id}{place}: {workflow.error}"


def lacking(graph: Any, situation: Situation, error: str) -> str | None:
    """What a failed run of the graph seems to have lacked, and what gives it; ``None`` where nothing tells."""
    if getattr(graph, "store", None) is None and OF_STORES.search(error):
        return (
            "its nodes use a store, and it was compiled without: compile it with store=…, or name it by its "
            "langgraph.json, which has it given one, as on LangGraph's own server"
        )
    schema = getattr(graph, "context_schema", None)
    if situation.context is None and schema is not None and "NoneType" in error:
        name = getattr(schema, "__name__", str(schema))
        return f"its nodes read a context ({name}): give it with --context JSON, in Python context=…"
    if OF_THREADS.search(error):
        return (
            "a node uses what belongs to one thread: record one workflow at a time, --concurrency 1, "
            "and let no such nodes run side by side"
        )
    key = re.match(r"KeyError: ['\"](.+)['\"]$", error)
    if key is None or key[1] in situation.configurable or key[1] in getattr(graph, "channels", {}):
        return None
    return (
        f"if a node reads {key[1]!r} from its config, give --configurable {key[1]}=VALUE, "
        f"in Python config={{'configurable': {{{key[1]!r}: …}}}}"
    )


def of_answer(error: str) -> bool:
    """Whether the words of an answer may have caused it."""
    return OF_ANSWERS.match(error) is not None and OF_THREADS.search(error) is None
