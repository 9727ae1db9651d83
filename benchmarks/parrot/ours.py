"""What ReJoule's policy ``parrot`` decides on the DAG that Parrot's scheduler is given, in the same rounds."""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx

from rejoule.replay.policy.future import recorded_outlooks
from rejoule.replay.policy.gate import prefix
from rejoule.replay.policy.interface import UNKNOWN, Flight, Outlook, Pending, View
from rejoule.replay.policy.parrot import Parrot
from rejoule.traces.dag import graph
from rejoule.traces.model import Call, Workflow


@dataclass(frozen=True, slots=True)
class Node:
    """A call of a DAG in which calls alone are left, as both schedulers are given it."""

    id: str
    prefix: str
    sources: tuple[str, ...]
    outlook: Outlook
    place: int


def calls_alone(workflow: Workflow) -> list[Node]:
    """The calls of a workflow in topological order; what waits for a tool waits for what the tool waits for."""
    dag = graph(workflow, "barrier")
    outlooks = recorded_outlooks(workflow, "barrier", time_scale=1.0, output_scale=1.0)
    nearest: dict[str, set[str]] = {}
    found: list[Node] = []
    for name in nx.lexicographical_topological_sort(dag):
        vertex = workflow.vertices[name]
        nearest[name] = set().union(*(nearest[p] for p in dag.predecessors(name)))
        if isinstance(vertex, Call):
            found.append(Node(name, prefix(vertex), tuple(sorted(nearest[name])), outlooks[name], len(found)))
            nearest[name] = {name}
    return found


def rounds(nodes: list[Node]) -> list[list[str]]:
    """The calls that go out in each round; then the one that went out first ends."""
    policy = Parrot()
    known = {node.id: pending(node) for node in nodes}
    due: dict[str, Pending] = {}
    ended: set[str] = set()
    flying: dict[str, Flight] = {}
    found: list[list[str]] = []
    while len(ended) < len(nodes):
        for node in nodes:
            if node.id not in due and ended.issuperset(node.sources):
                due[node.id] = known[node.id]
        waiting = tuple(call for name, call in due.items() if name not in flying and name not in ended)
        view = View(float(len(found)), waiting, dict(flying), {}, None, UNKNOWN, "oracle")
        sent = sorted(one.call for one in policy.decide(view).send) if waiting else []
        flying.update({name: Flight(known[name], view.now_s, 0) for name in sent})
        found.append(sent)
        first = next(iter(flying))
        del flying[first]
        ended.add(first)
    return found


def pending(node: Node) -> Pending:
    return Pending(
        id=node.id, workflow="w", graph="g", node="n", agent=None, prompt_tokens=None, prefix=node.prefix, due_s=0.0,
        arrival_s=0.0, place=0, turn=node.place, visit=1, outlook=node.outlook,
    )  # fmt: skip
