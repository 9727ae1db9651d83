"""The workflow's nodes as a layered graph, drawn as SVG."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rejoule.analysis.pictures.picture import Picture
from rejoule.analysis.pictures.svg import Markup, drawing, element, title, words
from rejoule.analysis.summary.cells import Cell, Workload
from rejoule.analysis.summary.lines import line
from rejoule.analysis.summary.units import UNKNOWN, amount, percent
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


def dag(workload: Workload, cell: Cell) -> Picture | None:
    """With the joules of one configuration; ``None`` where the trace is not at hand."""
    if workload.trace is None:
        return None
    note = f"of {cell.label}; means over its trials"
    if cell.withheld:
        note += f"; joules by node are withheld: {cell.withheld}"
    whole = cell.energy_j or 0.0
    joules = {name: (energy.total_j, energy.total_j / whole if whole else 0.0) for name, energy in cell.nodes.items()}
    return Picture("nodes", "Nodes of the workflow, and their joules", note, drawn(node_graph(workload.trace), joules))


def drawn(graph: NodeGraph, joules: Mapping[str, tuple[float, float]]) -> Markup:
    """Cards joined by curves, with joules and their share of the run's by node."""

    def height(name: str) -> int:
        return HEIGHT if name in graph.calls else LANE

    def tall(names: Sequence[str]) -> int:
        return sum(map(height, names)) + GAP_Y * (len(names) - 1)

    inner = max(map(tall, graph.layers), default=HEIGHT)
    width = 2 * PAD + max(1, len(graph.layers)) * (WIDTH + GAP_X) - GAP_X
    at: dict[str, Point] = {}
    for i, names in enumerate(graph.layers):
        y = PAD + (inner - tall(names)) / 2
        for name in names:
            at[name] = (PAD + i * (WIDTH + GAP_X), y + height(name) / 2)
            y += height(name) + GAP_Y
    back = any(at[a][0] >= at[b][0] for a, b in graph.edges)
    bottom = 2 * PAD + inner + (34 if back else 0)
    most = max(graph.edges.values(), default=1)
    highest = max((share for _, share in joules.values()), default=0.0)
    return drawing(
        width,
        bottom,
        "nodes of the workflow",
        *(_curve(graph, at, link, 1 + 2 * times / most, bottom) for link, times in graph.edges.items()),
        *(
            _card(node, at[node][0], at[node][1] - HEIGHT / 2, n, joules.get(line(node)), highest)
            for node, n in graph.calls.items()
        ),
    )


def _curve(graph: NodeGraph, at: dict[str, Point], link: Link, stroke: float, bottom: float) -> Markup:
    (x1, y1), (x2, y2) = at[link[0]], at[link[1]]
    back = x1 >= x2
    if not back:
        path = f"M{x1 + WIDTH:g} {y1:g}"
        for a, b in pairwise((link[0], *graph.lanes.get(link, ()), link[1])):
            start, end, bend = at[a][0] + WIDTH, at[b][0], GAP_X / 2
            path += f"H{start:g}C{start + bend:g} {at[a][1]:g} {end - bend:g} {at[b][1]:g} {end:g} {at[b][1]:g}"
    else:
        # A loop back leaves and arrives below the cards.
        low = bottom - PAD / 2
        x1, y1, x2, y2 = x1 + WIDTH / 2 + 12, y1 + HEIGHT / 2, x2 + WIDTH / 2 - 12, y2 + HEIGHT / 2
        path = f"M{x1:g} {y1:g}C{x1:g} {low:g} {x2:g} {low:g} {x2:g} {y2:g}"
    return element(
        "path",
        title(f"{link[0]} → {link[1]}, {graph.edges[link]} times"),
        d=path,
        fill="none",
        stroke="var(--ink-3)",
        stroke_opacity=0.5,
        stroke_width=round(stroke, 2),
        stroke_dasharray="4 4" if back else None,
    )


def _card(node: str, x: float, y: float, calls: int, joules: tuple[float, float] | None, highest: float) -> Markup:
    name = node if len(node) <= LONGEST else "…" + node[-LONGEST + 1 :]
    share = 0.0 if joules is None else max(0.0, joules[1])
    hot = share > 0.0 and share == highest
    shown, part = (UNKNOWN, counted(calls, "call")) if joules is None else (amount(joules[0], "J"), percent(share))
    track = WIDTH - 24
    parts = [
        title(f"{node}: {counted(calls, 'call') if calls else 'tools only'}"),
        element(
            "rect",
            class_="base",
            width=WIDTH,
            height=HEIGHT,
            rx=10,
            fill="var(--accent-soft)" if hot else "var(--surface)",
            stroke="var(--accent)" if hot else "var(--line)",
            stroke_width=1.2,
            stroke_dasharray=None if calls else "4 3",
        ),
        words(name, 12, 21, font_weight=600, fill="var(--ink)" if calls else "var(--ink-3)"),
    ]
    if calls:
        bar: dict[str, object] = {"x": 12, "y": HEIGHT - 11, "height": 4, "rx": 2}
        parts += [
            element("rect", **bar, width=track, fill="var(--level)"),
            element(
                "rect",
                **bar,
                class_="fill",
                data_of=track,
                width=round(track * share, 1),
                fill="var(--accent)",
            ),
            words(shown, 12, 44, class_="joules", font_size=16, font_weight=600, fill="var(--ink)"),
            words(part, WIDTH - 12, 44, class_="share", text_anchor="end"),
        ]
    else:
        parts.append(words("tools only", 12, 44, fill="var(--ink-3)"))
    kind = "card" if calls else "card quiet"
    return element("g", *parts, class_=kind, data_node=line(node), transform=f"translate({x:g} {y:g})")
