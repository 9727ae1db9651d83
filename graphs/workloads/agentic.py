"""Multi-agent programming, tested for real.

START → product_manager → architect → engineer × modules → reviewer → tester → END. The reviewer may send the work
back to the engineers, and so does a failing test, until it passes or the rounds are used up.
"""

from __future__ import annotations

import keyword
import operator
import random
import re
import sys
from dataclasses import dataclass, replace
from typing import Annotated, Any, Self, TypedDict

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send
from openai import AsyncOpenAI

from rejoule.graphs.corpus import CHARS_PER_TOKEN, Corpus
from rejoule.graphs.tools.doctests import doctest_tool
from rejoule.graphs.tools.sandbox import Limits
from rejoule.graphs.tools.walls import OFF, ON, SANDBOX, jailed, remarks
from rejoule.graphs.workloads.model import Model, derived_seed, system, user
from rejoule.graphs.workloads.results import Output
from rejoule.graphs.workloads.schema import items, one_of, record, text
from rejoule.graphs.workloads.settings import Settings, setting
from rejoule.graphs.workloads.workload import Workload

PRODUCT_MANAGER = (
    "You are the product manager of a small team that writes Python. You turn a wish into requirements: what the "
    "program must do, what it must refuse, and three examples of input with the exact output. You decide; you ask "
    "nothing back, and you name no libraries beyond Python's standard one."
)
ARCHITECT = (
    "You are the architect of a small team that writes Python. You split a program into modules that different "
    "engineers can write at the same time without talking to each other. For each module you give a short lower-case "
    "name and its purpose: the functions it offers, with their parameters and what they return. Modules may not "
    "import each other in a circle."
)
ENGINEER = (
    "You are an engineer of a small team that writes Python. You write one module, whole and ready to import, for "
    "Python 3.11 with nothing but its standard library. Every public function has a docstring with a doctest that "
    "passes. The module does nothing when imported: it reads no input, opens no file and prints nothing."
)
REVIEWER = (
    "You are the reviewer of a small team that writes Python. You read all modules together and look for what a test "
    "run would not show: requirements left out, modules that disagree about a function, and wrong edge cases. You "
    "approve what is good enough to test. Otherwise you ask for a revision, and say which change each module needs."
)

WISHES = (
    "convert between Roman numerals and integers, and refuse malformed numerals",
    "parse and evaluate arithmetic expressions with parentheses and precedence, without eval",
    "lay out paragraphs of text in justified columns of a given width",
    "keep score of a ten-pin bowling game, frame by frame",
    "schedule meetings: find the free slots that several calendars have in common",
    "convert amounts between units of length, mass and time, and add them up",
    "compute differences between two versions of a table of records, by key",
    "simplify polynomials in one variable and print them the way people write them",
    "pack items into as few boxes of one size as possible, with a good heuristic",
    "validate and format international bank account numbers and credit card numbers",
    "play tic-tac-toe perfectly and explain each move in one sentence",
    "summarise log lines: count by level, group alike messages, and find the busiest minute",
)


@dataclass(frozen=True)
class AgenticSettings(Settings):
    """Sizes of the team and of its work."""

    engineers: int = setting(4, "most modules, each with an engineer of its own")
    rounds: int = setting(3, "most rounds of engineering")
    requirements_tokens: int = setting(250, "most tokens of the requirements")
    purpose_tokens: int = setting(50, "most tokens of a module's purpose, about")
    code_tokens: int = setting(300, "most tokens of a module's code, about")
    comment_tokens: int = setting(100, "most tokens of a review, about")
    test_time_s: float = setting(5.0, "most seconds that a test run takes", least=0.1)
    sandbox: str = setting(ON, "whether tests run in a jail", choices=SANDBOX)

    def settled(self) -> Self:
        """With ``sandbox`` as it is going to be. Raises RejouleError where there is no jail that it must have."""
        return replace(self, sandbox=ON if jailed(self.sandbox) else OFF)

    def remarks(self) -> tuple[str, ...]:
        """That code runs without a jail, and why."""
        return remarks(self.sandbox)


class Input(TypedDict):
    """What the program should do."""

    seed: int
    wish: str


class Module(TypedDict):
    """A part of the program, as the architect planned it."""

    name: str
    purpose: str


class State(Input, Output):
    """``code`` holds the latest version of each module that was delivered; ``feedback`` is what the next round gets."""

    requirements: str
    modules: list[Module]
    code: Annotated[dict[str, str], operator.or_]
    round: int
    revise: bool
    feedback: str


class Task(TypedDict):
    """What one engineer is sent."""

    seed: int
    requirements: str
    modules: list[Module]
    module: Module
    written: str
    round: int
    feedback: str


@dataclass(frozen=True)
class Team:
    """The nodes and the routes."""

    model: Model
    settings: AgenticSettings
    test_tool: BaseTool

    async def product_manager(self, state: State) -> dict[str, Any]:
        """Writes the requirements."""
        messages = [system(PRODUCT_MANAGER), user(f"The wish: a program to {state['wish']}.")]
        seed = derived_seed(state["seed"], "product_manager")
        requirements = await self.model.text(messages, max_tokens=self.settings.requirements_tokens, seed=seed)
        return {"requirements": requirements}

    async def architect(self, state: State) -> dict[str, Any]:
        """Plans the modules; a plan that breaks the schema becomes one module for all."""
        task = f"Requirements:\n{state['requirements']}\n\nPlan at most {self.settings.engineers} modules."
        module = record(name=text(24), purpose=text(self.settings.purpose_tokens * CHARS_PER_TOKEN))
        schema = record(modules=items(module, min(2, self.settings.engineers), self.settings.engineers))
        seed = derived_seed(state["seed"], "architect")
        answer = await self.model.answer([system(ARCHITECT), user(task)], "plan", schema, seed=seed)
        whole = Module(name="program", purpose="The whole program.")
        planned: list[Module] = answer.value["modules"] if answer.value else [whole]
        return {"modules": _importable(planned), "round": 0, "feedback": ""}

    def assign(self, state: State) -> list[Send]:
        """An engineer for each module."""
        return [
            Send(
                "engineer",
                Task(
                    seed=state["seed"],
                    requirements=state["requirements"],
                    modules=state["modules"],
                    module=module,
                    written=state["code"].get(module["name"], ""),
                    round=state["round"],
                    feedback=state["feedback"],
                ),
            )
            for module in state["modules"]
        ]

    async def engineer(self, state: Task) -> dict[str, Any]:
        """Writes one module; an answer that breaks the schema delivers nothing, and the tests will miss it."""
        name = state["module"]["name"]
        code = text(self.settings.code_tokens * CHARS_PER_TOKEN, contentMediaType="text/x-python")
        seed = derived_seed(state["seed"], "engineer", name, state["round"])
        messages = [system(ENGINEER), user(_engineering_task(state))]
        answer = await self.model.answer(messages, "module", record(code=code), seed=seed)
        return {"code": {name: answer.value["code"]} if answer.value else {}}

    async def reviewer(self, state: State) -> dict[str, Any]:
        """Reads the code and closes the round; a verdict that breaks the schema leaves the judgement to the tests."""
        code = "\n\n".join(f"# {name}.py\n{source}" for name, source in sorted(state["code"].items()))
        task = f"Requirements:\n{state['requirements']}\n\nThe modules:\n\n{code or '(nothing was delivered)'}"
        comments = text(self.settings.comment_tokens * CHARS_PER_TOKEN)
        schema = record(verdict=one_of("approve", "revise"), comments=comments)
        seed = derived_seed(state["seed"], "reviewer", state["round"])
        answer = await self.model.answer([system(REVIEWER), user(task)], "review", schema, seed=seed)
        done = state["round"] + 1
        match answer.value:
            case {"verdict": "revise", "comments": wanted} if done < self.settings.rounds:
                return {"round": done, "revise": True, "feedback": f"The reviewer wants a revision:\n{wanted}"}
        return {"round": done, "revise": False}

    def after_review(self, state: State) -> str | list[Send]:
        """As the reviewer chose, while rounds are left; the last round is tested in any case."""
        return self.assign(state) if state["revise"] else "tester"

    async def tester(self, state: State, config: RunnableConfig) -> dict[str, Any]:
        """Imports every module and runs its doctests, in the jail unless that is off."""
        names = [module["name"] for module in state["modules"]]
        ran = await self.test_tool.ainvoke({"modules": state["code"], "expected": names}, config)
        outcome = "The tests pass." if ran["passed"] else f"The tests fail ({ran['reason']}):\n{ran['output']}"
        closing = ran["passed"] or state["round"] >= self.settings.rounds
        text = f"A program to {state['wish']}, in {', '.join(names)}. {outcome}"
        return {"feedback": outcome, "results": [{"workload": "agentic", "text": text}] if closing else []}

    def after_test(self, state: State) -> str | list[Send]:
        """Back to the engineers with the failure, until the tests pass or the rounds are used up."""
        return END if state["results"] else self.assign(state)


def _importable(modules: list[Module]) -> list[Module]:
    """The plan with names that Python can import, that hide no library, and that differ from each other."""
    named: dict[str, Module] = {}
    for number, module in enumerate(modules, start=1):
        name = re.sub(r"[^a-z0-9_]", "_", module["name"].lower().removesuffix(".py"))
        if not name.isidentifier() or keyword.iskeyword(name) or name in sys.stdlib_module_names:
            name = f"module_{number}"
        while name in named:
            name += "_"
        named[name] = {"name": name, "purpose": module["purpose"]}
    return list(named.values())


def _engineering_task(state: Task) -> str:
    plan = "\n".join(f"- {module['name']}: {module['purpose']}" for module in state["modules"])
    parts = [
        f"Requirements:\n{state['requirements']}",
        f"The modules of the program:\n{plan}",
        f"Your module before:\n{state['written']}" if state["written"] else "",
        state["feedback"],
        f"Write the module {state['module']['name']}.",
    ]
    return "\n\n".join(part for part in parts if part)


def build(
    client: AsyncOpenAI, model: str, settings: AgenticSettings, corpus: Corpus
) -> StateGraph[State, None, Input, Output]:
    """The graph; the team reads no corpus."""
    limits = Limits(wall_s=settings.test_time_s, cpu_s=max(1, round(settings.test_time_s)))
    nodes = Team(Model(client, model), settings, doctest_tool(limits, settings.sandbox))
    graph = StateGraph(State, input_schema=Input, output_schema=Output)
    graph.add_node("product_manager", nodes.product_manager)
    graph.add_node("architect", nodes.architect)
    graph.add_node("engineer", nodes.engineer)
    graph.add_node("reviewer", nodes.reviewer)
    graph.add_node("tester", nodes.tester)
    graph.add_edge(START, "product_manager")
    graph.add_edge("product_manager", "architect")
    graph.add_conditional_edges("architect", nodes.assign, ["engineer"])
    graph.add_edge("engineer", "reviewer")
    graph.add_conditional_edges("reviewer", nodes.after_review, ["engineer", "tester"])
    graph.add_conditional_edges("tester", nodes.after_test, ["engineer", END])
    return graph


def assignment(seed: int, wish: str) -> Input:
    """The input for one wish."""
    return {"seed": seed, "wish": wish}


def inputs(settings: AgenticSettings, corpus: Corpus, seed: int, index: int) -> dict[str, Any]:
    """One of a dozen wishes."""
    own = derived_seed(seed, "agentic", index)
    return dict(assignment(own, random.Random(own).choice(WISHES)))


WORKLOAD = Workload("agentic", "multi-agent programming with real tests", AgenticSettings, build, inputs)
