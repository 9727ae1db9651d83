"""The workflow's nodes as a layered graph, drawn as SVG."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from rejoule.traces.model import Trace, Workflow
from rejoule.traces.words import counted

WIDTH, HEIGHT, GAP_X, GAP_Y, PAD = 176, 66, 64, 22, 12
LONGEST = 21
"""Letters of a node's name that fit on its card."""


LANE = 12
"""Height of the lane in which an edge passes a layer."""

Link = tuple[str, str]
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class NodeGraph:
    """Nodes by layer, left to right, and how often one led to another."""

    layers: tuple[tuple[str, ...], ...]
    """Nodes from top to bottom, with lanes for the edges that pass between them."""
    calls: dict[str, int]
    """LLM calls of each node; 0 for a node of tools alone."""
    edges: dict[Link, int]
    lanes: dict[Link, tuple[str, ...]]
    """For an edge over several layers, its lane in each that it passes."""


def node_graph(trace: Trace) -> NodeGraph:
    """All workflows of a trace merged by node; a node lies after those that it first waits for."""
    calls: Counter[str] = Counter()
    edges: Counter[Link] = Counter()
    places: dict[str, list[int]] = {}
    for workflow in trace.workflows:
        calls.update(call.node for call in workflow.calls)
        for node, place in _first_places(workflow).items():
            places.setdefault(node, []).append(place)
        for target, sources in _led_to(workflow).items():
            to = workflow.vertices[target].node
            edges.update({(workflow.vertices[s].node, to) for s in sources if workflow.vertices[s].node != to})
    rank = {node: (sum(found) / len(found), i) for i, (node, found) in enumerate(places.items())}
    layer: dict[str, int] = {}
    for node in sorted(rank, key=lambda n: rank[n]):
        before = [layer[a] for a, b in edges if b == node and a in layer]
        layer[node] = 1 + max(before, default=-1)
    lanes = {
        (a, b): tuple(f"{a}→{b}@{i}" for i in range(layer[a] + 1, layer[b]))
        for a, b in edges
        if layer[b] > layer[a] + 1
    }
    return NodeGraph(_ordered(layer, edges, lanes), {node: calls[node] for node in layer}, dict(edges), lanes)


def _led_to(workflow: Workflow) -> dict[str, tuple[str, ...]]:
    """For every vertex, those that it came after, or on part of whose answer it began."""
    return {v: (*sources, *workflow.streamed.get(v, ())) for v, sources in workflow.predecessors().items()}


def _first_places(workflow: Workflow) -> dict[str, int]:
    """For every node, how many vertices lie before its first one on the longest chain."""
    waited_for = _led_to(workflow)
    depth: dict[str, int] = {}
    first: dict[str, int] = {}
    for name, vertex in workflow.vertices.items():
        depth[name] = 1 + max((depth.get(p, 0) for p in waited_for[name]), default=-1)
        first[vertex.node] = min(first.get(vertex.node, depth[name]), depth[name])
    return first


def _ordered(
    layer: dict[str, int], edges: Iterable[Link], lanes: dict[Link, tuple[str, ...]]
) -> tuple[tuple[str, ...], ...]:
    """Within a layer, nodes near those that lead to them (the barycentre heuristic of Sugiyama et al., 1981)."""
    layers: list[list[str]] = [[] for _ in range(1 + max(layer.values(), default=-1))]
    for node, number in layer.items():
        layers[number].append(node)
    links: list[Link] = []
    for a, b in edges:
        path = (a, *lanes.get((a, b), ()), b)
        links += pairwise(path)
        for i, lane in enumerate(path[1:-1]):
            layers[layer[a] + 1 + i].append(lane)
    place: dict[str, float] = {}
    for nodes in layers:
        wanted = {}
        for node in nodes:
            before = [place[a] for a, b in links if b == node and a in place]
            wanted[node] = sum(before) / len(before) if before else 0.0
        nodes.sort(key=lambda n: wanted[n])
        place |= {node: i - (len(nodes) - 1) / 2 for i, node in enumerate(nodes)}
    return tuple(tuple(nodes) for nodes in layers)


def svg(graph: NodeGraph) -> str:
    """Cards joined by curves. The page's script fills in joules for the chosen configuration."""

    def height(name: str) -> int:
        return HEIGHT if name in graph.calls else LANE

    def tall(names: Sequence[str]) -> int:
        return sum(map(height, names)) + GAP_Y * (len(names) - 1)

    inner = max(map(tall, graph.layers), default=HEIGHT)
    width = 2 * PAD + len(graph.layers) * (WIDTH + GAP_X) - GAP_X
    at: dict[str, Point] = {}
    for i, names in enumerate(graph.layers):
        y = PAD + (inner - tall(names)) / 2
        for name in names:
            at[name] = (PAD + i * (WIDTH + GAP_X), y + height(name) / 2)
            y += height(name) + GAP_Y
    back = any(at[a][0] >= at[b][0] for a, b in graph.edges)
    bottom = 2 * PAD + inner + (34 if back else 0)
    most = max(graph.edges.values(), default=1)
    curves = "".join(_curve(graph, at, link, 1 + 2 * times / most, bottom) for link, times in graph.edges.items())
    cards = "".join(_card(node, at[node][0], at[node][1] - HEIGHT / 2, n) for node, n in graph.calls.items())
    return (
        f'<svg class="dag" viewBox="0 0 {width} {bottom:g}" style="width:{width}px;min-width:{0.75 * width:g}px" '
        f'role="img" aria-label="nodes of the workflow">{curves}{cards}</svg>'
    )


def _curve(graph: NodeGraph, at: dict[str, Point], link: Link, stroke: float, bottom: float) -> str:
    (x1, y1), (x2, y2) = at[link[0]], at[link[1]]
    if x1 < x2:
        kind, path = "edge", f"M{x1 + WIDTH:g} {y1:g}"
        for a, b in pairwise((link[0], *graph.lanes.get(link, ()), link[1])):
            start, end, bend = at[a][0] + WIDTH, at[b][0], GAP_X / 2
            path += f"H{start:g}C{start + bend:g} {at[a][1]:g} {end - bend:g} {at[b][1]:g} {end:g} {at[b][1]:g}"
    else:
        # A loop back leaves and arrives below the cards.
        kind, low = "edge back", bottom - PAD / 2
        x1, y1, x2, y2 = x1 + WIDTH / 2 + 12, y1 + HEIGHT / 2, x2 + WIDTH / 2 - 12, y2 + HEIGHT / 2
        path = f"M{x1:g} {y1:g}C{x1:g} {low:g} {x2:g} {low:g} {x2:g} {y2:g}"
    title = escape(f"{link[0]} → {link[1]}, {graph.edges[link]} times")
    return f'<path class="{kind}" d="{path}" stroke-width="{stroke:.2g}"><title>{title}</title></path>'


def _card(node: str, x: float, y: float, calls: int) -> str:
    name = node if len(node) <= LONGEST else "…" + node[-LONGEST + 1 :]
    label = counted(calls, "call") if calls else "tools only"
    return (
        f'<g class="card{"" if calls else " quiet"}" data-node="{escape(node)}" transform="translate({x:g} {y:g})">'
        f"<title>{escape(node)}</title>"
        f'<rect class="base" width="{WIDTH}" height="{HEIGHT}" rx="10"/>'
        f'<rect class="level" x="12" y="{HEIGHT - 11}" width="{WIDTH - 24}" height="4" rx="2"/>'
        f'<rect class="fill" x="12" y="{HEIGHT - 11}" width="0" height="4" rx="2"/>'
        f'<text class="name" x="12" y="21">{escape(name)}</text>'
        f'<text class="joules" x="12" y="44">–</text>'
        f'<text class="share" x="{WIDTH - 12}" y="44" text-anchor="end">{label}</text></g>'
    )
