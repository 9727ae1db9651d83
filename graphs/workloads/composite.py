"""A mix: a planner hands parts of a request to the other workloads, which run at the same time, and a joiner.

START → planner → one to a few of sequential, interactive and agentic, each a subgraph → joiner → END.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Send
from openai import AsyncOpenAI

from rejoule.graphs.corpus import Corpus
from rejoule.graphs.tools.search import SearchIndex
from rejoule.graphs.workloads import agentic, interactive, sequential
from rejoule.graphs.workloads.agentic import AgenticSettings
from rejoule.graphs.workloads.interactive import InteractiveSettings
from rejoule.graphs.workloads.model import Model, derived_seed, system, user
from rejoule.graphs.workloads.results import Output
from rejoule.graphs.workloads.schema import items, one_of, record, text
from rejoule.graphs.workloads.sequential import SequentialSettings
from rejoule.graphs.workloads.settings import setting
from rejoule.graphs.workloads.workload import Workload

PLANNER = """\
You plan how a request is worked on. Three workflows can run, several at the same time, and none sees the others:
- sequential reads one document of the library from its beginning and summarises it; brief it with what to look up.
- interactive searches the library and answers questions with citations; brief it with the first question.
- agentic is a team that writes and tests a Python program; brief it with what the program shall do, beginning with a
  verb.
Choose the workflows that the request needs, and write each a brief that stands on its own."""
JOINER = (
    "You write the final reply to a request from the results of several workflows that worked on parts of it. You say "
    "first what was asked and whether it is done, then what each part found or made, with its sources. Where results "
    "disagree or a part failed, you say so."
)
REQUESTS = (
    "We are about to rely on “{title}”. Tell us what it is for and what to watch out for, and write a small program "
    "to {wish}, so that we see how such code looks with it.",
    "Prepare a workshop on “{title}”: a summary to hand out, answers to what beginners ask first, and an exercise "
    "with its solution: a program to {wish}.",
    "Somebody suggested “{title}” for a program to {wish}. Find out whether it fits, and build a first version.",
)
BRIEF_CHARS = 200


@dataclass(frozen=True)
class CompositeSettings(SequentialSettings, InteractiveSettings, AgenticSettings):
    """Sizes of the mix, and those of all its parts."""

    branches: int = setting(3, "most workflows that the planner starts at once")
    reply_tokens: int = setting(250, "most tokens of the final reply")


class Input(TypedDict):
    """What is wanted."""

    seed: int
    request: str


class Branch(TypedDict):
    """A part of the request, for one workflow."""

    workflow: str
    brief: str


class State(Input, Output):
    """``results`` comes from the subgraphs, and the joiner's at the end."""

    plan: list[Branch]


@dataclass(frozen=True)
class Office:
    """The nodes and the routes."""

    model: Model
    settings: CompositeSettings
    corpus: Corpus
    index: SearchIndex

    async def planner(self, state: State) -> dict[str, Any]:
        """Chooses the workflows; a plan that breaks the schema hands the request to one of each, within the bound."""
        workflows, most = ("sequential", "interactive", "agentic"), self.settings.branches
        branch = record(workflow=one_of(*workflows), brief=text(BRIEF_CHARS))
        schema = record(branches=items(branch, min(2, most), most))
        task = f"The request:\n{state['request']}\n\nPlan at most {most} workflows."
        seed = derived_seed(state["seed"], "planner")
        answer = await self.model.answer([system(PLANNER), user(task)], "plan", schema, seed=seed)
        one_each = [Branch(workflow=name, brief=state["request"]) for name in workflows[:most]]
        return {"plan": answer.value["branches"] if answer.value else one_each}

    def dispatch(self, state: State) -> list[Send]:
        """A subgraph for each part of the plan."""
        return [
            Send(branch["workflow"], self._assignment(branch, state["seed"], number))
            for number, branch in enumerate(state["plan"])
        ]

    async def joiner(self, state: State) -> dict[str, Any]:
        """Writes the reply."""
        parts = "\n\n".join(f"Result of {result['workload']}:\n{result['text']}" for result in state["results"])
        task = f"The request:\n{state['request']}\n\n{parts}\n\nWrite the final reply."
        seed = derived_seed(state["seed"], "joiner")
        reply = await self.model.text([system(JOINER), user(task)], max_tokens=self.settings.reply_tokens, seed=seed)
        return {"results": [{"workload": "composite", "text": reply}]}

    def _assignment(self, branch: Branch, seed: int, number: int) -> Any:
        own, brief = derived_seed(seed, "branch", number), branch["brief"]
        match branch["workflow"]:
            case "sequential":
                found = self.index.search(brief, 1)
                fallback = random.Random(own).choice(self.corpus.documents)
                document = self.corpus[found[0].document_id] if found else fallback
                return sequential.assignment(self.settings, document, own, number + seed)
            case "interactive":
                return interactive.assignment(self.settings, self.corpus, own, first=brief)
        return agentic.assignment(own, brief)


def build(
    client: AsyncOpenAI, model: str, settings: CompositeSettings, corpus: Corpus
) -> StateGraph[State, None, Input, Output]:
    """The graph, with the three others compiled into it as nodes."""
    nodes = Office(Model(client, model), settings, corpus, SearchIndex(corpus, settings.passage_tokens))
    graph = StateGraph(State, input_schema=Input, output_schema=Output)
    graph.add_node("planner", nodes.planner)
    graph.add_node("sequential", sequential.build(client, model, settings, corpus).compile())
    graph.add_node("interactive", interactive.build(client, model, settings, corpus).compile())
    graph.add_node("agentic", agentic.build(client, model, settings, corpus).compile())
    graph.add_node("joiner", nodes.joiner)
    graph.add_edge(START, "planner")
    graph.add_conditional_edges("planner", nodes.dispatch, ["sequential", "interactive", "agentic"])
    for name in ("sequential", "interactive", "agentic"):
        graph.add_edge(name, "joiner")
    graph.add_edge("joiner", END)
    return graph


def inputs(settings: CompositeSettings, corpus: Corpus, seed: int, index: int) -> dict[str, Any]:
    """A request about a document and a wish, both drawn."""
    own = derived_seed(seed, "composite", index)
    draw = random.Random(own)
    title, wish = draw.choice(corpus.documents).title, draw.choice(agentic.WISHES)
    return {"seed": own, "request": draw.choice(REQUESTS).format(title=title, wish=wish)}


WORKLOAD = Workload("composite", "a planner that runs the other workloads at once", CompositeSettings, build, inputs)
