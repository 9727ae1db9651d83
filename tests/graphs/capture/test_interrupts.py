"""Answers to interrupts that are pending side by side."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt

from rejoule.graphs.capture import Recording, Rewrite, ServerInfo
from rejoule.graphs.record import Recorded


class State(TypedDict, total=False):
    said: Annotated[list[str], operator.add]


def asking(name: str) -> Any:
    def node(state: State) -> State:
        return {"said": [f"{name}: {interrupt(name)}"]}

    return node


async def said(*resume: Any) -> tuple[str, list[str]]:
    status, heard, _ = await recorded(*resume)
    return status, heard


async def recorded(*resume: Any) -> tuple[str, list[str], Recording]:
    heard: list[str] = []
    builder = StateGraph(State)
    for name in ("legal", "press"):
        builder.add_node(name, asking(name))
        builder.add_edge(START, name)
    builder.add_node("join", lambda state: heard.extend(state["said"]))
    builder.add_edge(["legal", "press"], "join")
    recording = Recording(Rewrite(ServerInfo("http://nowhere/v1"), None))
    with recording.watching():
        workflow = await recording.workflow(builder.compile(), {"said": []}, resume=resume)
    return workflow.status, heard, recording


@pytest.mark.parametrize(
    "resume",
    [("yes", "no"), ({"press": "no", "legal": "yes"},), ({"press": "no"}, "yes"), ({"legal": "yes"}, {"press": "no"})],
)
async def test_parallel_interrupts(resume: tuple[Any, ...]) -> None:
    """Answers are given in the order of those who ask, or to those whom they name."""
    assert await said(*resume) == ("done", ["legal: yes", "press: no"])


async def test_answers_that_are_objects() -> None:
    """An object that names nobody who asks is an answer itself."""
    assert await said({"ok": True}, "no") == ("done", ["legal: {'ok': True}", "press: no"])


async def test_too_many_answers() -> None:
    """Answers that nothing asked for are counted, and told."""
    status, _, recording = await recorded("yes", "no", "perhaps")
    assert (status, recording.unasked) == ("done", 1)
    (remark,) = [r for r in Recorded((), unasked=recording.unasked).remarks() if "left over" in r]
    assert remark.startswith("1 answer ")


async def test_too_few_answers() -> None:
    """Who is not answered asks again, and the workflow ends as interrupted."""
    assert await said("yes") == ("interrupted", [])
