"""Document summarisation, in two classic shapes.

Chain, or refine: START → refine → refine → … → END, a chunk at a time.
Map-reduce: START → map × chunks → gather → reduce × groups → gather → … → END, until one summary is left.
"""

from __future__ import annotations

import operator
import random
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Send
from openai import AsyncOpenAI

from rejoule.graphs.corpus import Corpus, Document, chunked
from rejoule.graphs.workloads.model import Model, derived_seed, system, user
from rejoule.graphs.workloads.results import Output
from rejoule.graphs.workloads.settings import Settings, setting
from rejoule.graphs.workloads.workload import Workload

EDITOR = (
    "You are a technical editor. You write summaries that a busy engineer can act on: what the thing is for, its main "
    "parts, the choices it offers, and what commonly goes wrong. You keep names exactly as they are spelled, you never "
    "add what the text does not say, and you write plain sentences without headings."
)


@dataclass(frozen=True)
class SequentialSettings(Settings):
    """Sizes of the summarisation."""

    mode: str = setting("both", "chain, map-reduce, or both in turn", choices=("both", "chain", "map-reduce"))
    chunks: int = setting(8, "most chunks of a document that are read")
    chunk_tokens: int = setting(400, "length of a chunk, about")
    summary_tokens: int = setting(150, "most tokens of a summary")
    fan_in: int = setting(4, "most summaries that one reduce step merges", least=2)


class Input(TypedDict):
    """A document to summarise, cut into chunks."""

    seed: int
    mode: Literal["chain", "map-reduce"]
    title: str
    chunks: list[str]


class State(Input, Output):
    """``parts`` holds (level, place, summary) of the tree; chunks are level 0."""

    position: int
    summary: str
    level: int
    parts: Annotated[list[tuple[int, int, str]], operator.add]


class Piece(TypedDict):
    """What one map or reduce step is sent."""

    seed: int
    title: str
    level: int
    place: int
    texts: list[str]


@dataclass(frozen=True)
class Summariser:
    """The nodes and the routes."""

    model: Model
    settings: SequentialSettings

    def start(self, state: State) -> str | list[Send]:
        """By the workflow's input, not the model's choice."""
        if state["mode"] == "chain":
            return "refine"
        return [Send("map", _piece(state, 0, place, [chunk])) for place, chunk in enumerate(state["chunks"])]

    async def refine(self, state: State) -> dict[str, Any]:
        """Works the next chunk into the summary so far."""
        position, total = state.get("position", 0), len(state["chunks"])
        so_far = state.get("summary") or "Nothing yet: this is the beginning."
        task = (
            f"Document: {state['title']}, part {position + 1} of {total}.\n\nSummary so far:\n{so_far}\n\n"
            f"Next part:\n{state['chunks'][position]}\n\n"
            "Write the summary anew so that it covers the new part too. Do not let it grow: drop the least useful."
        )
        summary = await self._write(task, derived_seed(state["seed"], "refine", position))
        done = {"results": [_result(state["title"], summary)]} if position + 1 == total else {}
        return {"position": position + 1, "summary": summary, **done}

    def after_refine(self, state: State) -> str:
        """Until no chunk is left."""
        return "refine" if state["position"] < len(state["chunks"]) else END

    async def map(self, state: Piece) -> dict[str, Any]:
        """Summarises one chunk."""
        task = f"Document: {state['title']}.\n\nPart:\n{state['texts'][0]}\n\nSummarise this part."
        return await self._part(state, task)

    async def gather(self, state: State) -> dict[str, Any]:
        """Closes a level of the tree; the last one holds the result."""
        level = state.get("level", -1) + 1
        summaries = _level(state, level)
        return {"level": level, "results": [_result(state["title"], summaries[0])] if len(summaries) == 1 else []}

    def after_gather(self, state: State) -> str | list[Send]:
        """One reduce for each group of neighbours, until one summary is left."""
        summaries, size = _level(state, state["level"]), self.settings.fan_in
        if len(summaries) == 1:
            return END
        groups = [summaries[at : at + size] for at in range(0, len(summaries), size)]
        return [Send("reduce", _piece(state, state["level"] + 1, place, group)) for place, group in enumerate(groups)]

    async def reduce(self, state: Piece) -> dict[str, Any]:
        """Merges a group of summaries."""
        parts = "\n\n".join(f"Summary {number}:\n{text}" for number, text in enumerate(state["texts"], start=1))
        task = f"Document: {state['title']}.\n\n{parts}\n\nMerge these summaries of neighbouring parts into one."
        return await self._part(state, task)

    async def _part(self, state: Piece, task: str) -> dict[str, Any]:
        level, place = state["level"], state["place"]
        summary = await self._write(task, derived_seed(state["seed"], "map-reduce", level, place))
        return {"parts": [(level, place, summary)]}

    async def _write(self, task: str, seed: int) -> str:
        messages = [system(EDITOR), user(task)]
        return await self.model.text(messages, max_tokens=self.settings.summary_tokens, seed=seed)


def _piece(state: State, level: int, place: int, texts: list[str]) -> Piece:
    return Piece(seed=state["seed"], title=state["title"], level=level, place=place, texts=texts)


def _level(state: State, level: int) -> list[str]:
    return [text for _, _, text in sorted(part for part in state["parts"] if part[0] == level)]


def _result(title: str, summary: str) -> dict[str, str]:
    return {"workload": "sequential", "text": f"{title}: {summary}"}


def build(
    client: AsyncOpenAI, model: str, settings: SequentialSettings, corpus: Corpus
) -> StateGraph[State, None, Input, Output]:
    """The graph of both shapes; the document comes with the input."""
    nodes = Summariser(Model(client, model), settings)
    graph = StateGraph(State, input_schema=Input, output_schema=Output)
    graph.add_node("refine", nodes.refine)
    graph.add_node("map", nodes.map)
    graph.add_node("gather", nodes.gather)
    graph.add_node("reduce", nodes.reduce)
    graph.add_conditional_edges(START, nodes.start, ["refine", "map"])
    graph.add_conditional_edges("refine", nodes.after_refine, ["refine", END])
    graph.add_edge("map", "gather")
    graph.add_conditional_edges("gather", nodes.after_gather, ["reduce", END])
    graph.add_edge("reduce", "gather")
    return graph


def assignment(settings: SequentialSettings, document: Document, seed: int, index: int) -> Input:
    """The input that summarises the beginning of a document; with both modes, even numbers are chains."""
    turn: Literal["chain", "map-reduce"] = "map-reduce" if index % 2 else "chain"
    chunks = chunked(document.text, settings.chunk_tokens)[: settings.chunks]
    mode = turn if settings.mode == "both" else settings.mode
    return {"seed": seed, "mode": mode, "title": document.title, "chunks": chunks}  # type: ignore[typeddict-item]


def inputs(settings: SequentialSettings, corpus: Corpus, seed: int, index: int) -> dict[str, Any]:
    """A document drawn from those that are long enough, or from all where none is."""
    own = derived_seed(seed, "sequential", index)
    long = [d for d in corpus.documents if len(chunked(d.text, settings.chunk_tokens)) >= settings.chunks]
    document = random.Random(own).choice(long or corpus.documents)
    return dict(assignment(settings, document, own, index))


WORKLOAD = Workload(
    "sequential", "document summarisation, by chain and by map-reduce", SequentialSettings, build, inputs
)
