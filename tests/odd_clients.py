"""Clients that do all that a server can be asked for, in random graphs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any, Final, TypedDict

from langgraph.graph import END, START, StateGraph
from openai import OpenAI, OpenAIError

HABITS: Final = ("plain", "stream", "several", "several streamed", "prompts", "left", "left at the end", "beams")


class State(TypedDict, total=False):
    said: Annotated[list[str], lambda a, b: a + b]


def graph_of(seed: int, faults: Sequence[str]) -> StateGraph[State]:
    """Nodes in random layers, each with one to three requests of random habits that ask for random faults."""
    source = random.Random(seed)
    graph: StateGraph[State] = StateGraph(State)
    before = [START]
    for layer in range(source.randint(1, 3)):
        names = [f"n{layer}{i}" for i in range(source.randint(1, 3))]
        for name in names:
            asks = [(source.choice(HABITS), source.choice(faults), source.randint(2, 6)) for _ in range(3)]
            graph.add_node(name, _node(asks[: source.randint(1, 3)]))
            for earlier in before:
                graph.add_edge(earlier, name)
        before = names
    for name in before:
        graph.add_edge(name, END)
    return graph


def _node(asks: list[tuple[str, str, int]]) -> Any:
    def node(_: State) -> State:
        with OpenAI(max_retries=0) as client:
            for habit, fault, tokens in asks:
                with suppress(OpenAIError, OSError):
                    _ask(client, habit, fault, tokens)
        return {"said": [""]}

    return node


def _ask(client: OpenAI, habit: str, fault: str, tokens: int) -> None:
    said: dict[str, Any] = {"model": "m", "max_tokens": tokens, "user": fault}
    chat = {**said, "messages": [{"role": "user", "content": "hello there"}]}
    match habit:
        case "plain":
            client.chat.completions.create(**chat)
        case "several":
            client.chat.completions.create(**chat, n=3)
        case "prompts":
            client.completions.create(**said, prompt=["one", "two"], n=2)
        case "beams":
            client.completions.create(**said, prompt="one", n=2, extra_body={"use_beam_search": True})
        case _:
            stream = client.chat.completions.create(**chat, stream=True, n=2 if habit == "several streamed" else 1)
            for number, chunk in enumerate(stream):
                if habit == "left" and number == 1:
                    break
                if habit == "left at the end" and chunk.choices[0].finish_reason is not None:
                    break
            stream.close()
