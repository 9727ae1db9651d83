"""A search copilot: a person asks, the model searches as often as it wants within a bound, and answers with citations.

START → person → decide → search → decide → … → answer → person → … → END. The conversation only grows, so that each
prompt begins with the one before it, and all workflows share one long system prompt.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import operator
import random
import re
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from langgraph.graph import END, START, StateGraph
from openai import AsyncOpenAI

from rejoule.graphs.corpus import CHARS_PER_TOKEN, Corpus
from rejoule.graphs.tools.search import SearchIndex, search_tool
from rejoule.graphs.workloads.model import Message, Model, assistant, derived_seed, system, user
from rejoule.graphs.workloads.results import Output
from rejoule.graphs.workloads.schema import one_of, record, text
from rejoule.graphs.workloads.settings import Settings, setting
from rejoule.graphs.workloads.workload import Workload

COPILOT = """\
You are a search copilot for a body of technical documentation. You help one person over several turns.

Each turn has two kinds of steps. When you are asked to decide, reply with JSON: the action "search" with a query of a
few distinctive words, when the passages seen so far do not settle the question; or the action "answer", with the query
"none", when they do. When you are asked to answer, reply in at most five sentences, cite the id of a passage in square
brackets, such as [json#3], after every claim taken from it, and say openly what the passages leave open. Never cite a
passage that was not shown to you, and never answer from memory where a passage says otherwise.

What follows is the beginning of the documentation, for orientation. It is not citable."""

QUESTIONS = (
    "What is {title} for, and when would I choose it?",
    "The documentation says: “{quote}” What does that mean in practice?",
    "I read this: “{quote}” Which options do I have there, and what are their defaults?",
    "What can go wrong here, and how would I notice: “{quote}”",
    "How does this fit with what you told me before: “{quote}”",
    "Can you show me the smallest example of this: “{quote}”",
)

ANSWER_NOW = "Answer the question now, with citations."
DECISION = record(action=one_of("search", "answer"), query=text(100))
CITATION = re.compile(r"\[([^\[\]\s]+#\d+)\]")


@dataclass(frozen=True)
class InteractiveSettings(Settings):
    """Sizes of the conversation."""

    turns: int = setting(4, "questions that the person asks")
    searches: int = setting(2, "most searches in a turn")
    passages: int = setting(3, "passages that a search returns")
    passage_tokens: int = setting(150, "length of a passage, about")
    shared_prompt_tokens: int = setting(2000, "length of the system prompt that all workflows share, about")
    answer_tokens: int = setting(160, "most tokens of an answer")
    think_time_s: float = setting(1.0, "mean time the person thinks between turns, lognormal")
    think_time_sigma: float = setting(0.5, "spread of the thinking time's logarithm")


class Input(TypedDict):
    """What the person is going to ask, in order."""

    seed: int
    questions: list[str]


class State(Input, Output):
    """``turn`` counts questions asked, ``searches`` those of this turn; without ``query`` it is time to answer."""

    conversation: Annotated[list[Message], operator.add]
    turn: int
    searches: int
    query: str | None
    shown: Annotated[list[str], operator.add]


@dataclass(frozen=True)
class Copilot:
    """The nodes and the routes."""

    model: Model
    settings: InteractiveSettings
    prompt: str
    search_tool: BaseTool

    async def person(self, state: State) -> dict[str, Any]:
        """Reads the last answer, thinks, and asks; the first question is there at once."""
        turn = state.get("turn", 0)
        if turn:
            await asyncio.sleep(think_time_s(self.settings, state["seed"], turn))
        return {"conversation": [user(state["questions"][turn])], "turn": turn + 1, "searches": 0}

    async def decide(self, state: State) -> dict[str, Any]:
        """Lets the model choose; an answer that breaks the schema searches with the person's own words."""
        seed = derived_seed(state["seed"], "decide", state["turn"], state["searches"])
        answer = await self.model.answer(self._messages(state), "decision", DECISION, seed=seed)
        match answer.value:
            case {"action": "answer"}:
                query = None
            case {"query": words}:
                query = words
            case _:
                query = state["questions"][state["turn"] - 1]
        return {"conversation": [assistant(answer.said)], "query": query}

    def after_decide(self, state: State) -> str:
        """As the model chose."""
        return "answer" if state["query"] is None else "search"

    async def search(self, state: State, config: RunnableConfig) -> dict[str, Any]:
        """Runs the search tool and shows the passages to the model."""
        query = state["query"] or ""
        passages = await self.search_tool.ainvoke({"query": query}, config)
        shown = "\n\n".join(f"[{passage['id']}]\n{passage['text']}" for passage in passages) or "Nothing was found."
        last = state["searches"] + 1 >= self.settings.searches
        task = ANSWER_NOW if last else "Decide: search again, or answer?"
        return {
            "conversation": [user(f"Passages for “{query}”:\n\n{shown}\n\n{task}")],
            "searches": state["searches"] + 1,
            "shown": [passage["id"] for passage in passages],
        }

    def after_search(self, state: State) -> str:
        """Back to the decision, until the turn's searches are used up."""
        return "decide" if state["searches"] < self.settings.searches else "answer"

    async def answer(self, state: State) -> dict[str, Any]:
        """Answers, streamed as people like it; the last answer closes the conversation."""
        # Chat templates want the two sides to alternate.
        asked = [user(ANSWER_NOW)] if state["conversation"][-1]["role"] == "assistant" else []
        seed = derived_seed(state["seed"], "answer", state["turn"])
        messages = self._messages(state) + asked
        said = await self.model.streamed_text(messages, max_tokens=self.settings.answer_tokens, seed=seed)
        done = [_result(state, said)] if state["turn"] == len(state["questions"]) else []
        return {"conversation": [*asked, assistant(said)], "results": done}

    def after_answer(self, state: State) -> str:
        """Until the person has no question left."""
        return "person" if state["turn"] < len(state["questions"]) else END

    def _messages(self, state: State) -> list[Message]:
        return [system(self.prompt), *state["conversation"]]


def think_time_s(settings: InteractiveSettings, seed: int, turn: int) -> float:
    """A lognormal time with the wanted mean, equal for equal arguments."""
    if settings.think_time_s == 0:
        return 0.0
    sigma = settings.think_time_sigma
    own = random.Random(derived_seed(seed, "think", turn))
    return own.lognormvariate(math.log(settings.think_time_s) - sigma**2 / 2, sigma)


def shared_prompt(corpus: Corpus, tokens: int) -> str:
    """The copilot's orders, filled up with documentation, again and again if need be, to the wanted length."""
    size = tokens * CHARS_PER_TOKEN
    parts, length = [COPILOT], len(COPILOT)
    for document in itertools.cycle(corpus.documents):
        if length >= size:
            break
        parts.append(f"## {document.id}: {document.title}\n\n{document.text}")
        length += len(parts[-1]) + 2
    # The orders stay whole, however short the prompt is wanted.
    return "\n\n".join(parts)[: max(size, len(COPILOT))]


def _result(state: State, last: str) -> dict[str, str]:
    cited = sorted(set(state["shown"]) & set(CITATION.findall(last)))
    sources = f" (sources: {', '.join(cited)})" if cited else ""
    return {"workload": "interactive", "text": f"{state['questions'][-1]} {last}{sources}"}


def build(
    client: AsyncOpenAI, model: str, settings: InteractiveSettings, corpus: Corpus
) -> StateGraph[State, None, Input, Output]:
    """The graph, with an index over the corpus."""
    index = SearchIndex(corpus, settings.passage_tokens)
    prompt = shared_prompt(corpus, settings.shared_prompt_tokens)
    nodes = Copilot(Model(client, model), settings, prompt, search_tool(index, settings.passages))
    graph = StateGraph(State, input_schema=Input, output_schema=Output)
    graph.add_node("person", nodes.person)
    graph.add_node("decide", nodes.decide)
    graph.add_node("search", nodes.search)
    graph.add_node("answer", nodes.answer)
    graph.add_edge(START, "person")
    graph.add_edge("person", "decide")
    graph.add_conditional_edges("decide", nodes.after_decide, ["search", "answer"])
    graph.add_conditional_edges("search", nodes.after_search, ["decide", "answer"])
    graph.add_conditional_edges("answer", nodes.after_answer, ["person", END])
    return graph


def assignment(settings: InteractiveSettings, corpus: Corpus, seed: int, first: str | None = None) -> Input:
    """A conversation about one document; ``first`` takes the place of its opening question."""
    own = random.Random(seed)
    document = own.choice(corpus.documents)
    quotes = _sentences(document.text)
    opening, *others = QUESTIONS
    asked = itertools.islice(itertools.cycle(others), settings.turns - 1)
    followed_up = [question.format(quote=own.choice(quotes)) for question in asked]
    return {"seed": seed, "questions": [first or opening.format(title=document.title), *followed_up]}


def inputs(settings: InteractiveSettings, corpus: Corpus, seed: int, index: int) -> dict[str, Any]:
    """A conversation about a document drawn from the corpus."""
    return dict(assignment(settings, corpus, derived_seed(seed, "interactive", index)))


def _sentences(text: str) -> list[str]:
    """Sentences worth asking about; the beginning of the text where it has none."""
    found = (" ".join(sentence.split()) for sentence in re.findall(r"[A-Z][^.!?]{30,200}\.(?=\s)", text))
    return list(dict.fromkeys(found)) or [" ".join(text.split())[:200]]


WORKLOAD = Workload(
    "interactive",
    "a search copilot in conversation, with a long shared prompt",
    InteractiveSettings,
    build,
    inputs,
)
