from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import numpy as np
import orjson
import pytest
from tests.analysis import builders

from rejoule.analysis.advice import objectives
from rejoule.analysis.export.svg_files import pictures
from rejoule.analysis.pictures.dag import node_graph
from rejoule.analysis.pictures.power import MOST_POINTS, power_line
from rejoule.analysis.report import render
from rejoule.analysis.report.file import MARK
from rejoule.analysis.report.packed import packed
from rejoule.analysis.summary.cells import gather
from rejoule.analysis.summary.summary import summarise
from rejoule.traces.model import Trace
from rejoule.traces.refused import Refused
from rejoule.traces.run import Conditions, Energy, PowerCap, Reading, Run, Step
from rejoule.traces.runs import Experiment

AGENTIC = builders.trace(3)
TRACES = {"agentic": AGENTIC, "search": builders.trace(4, "search", ("query", "answer"))}
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """What a browser would make of a page: open elements, what it would load, text by element."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.text: dict[str, str] = {}
        self.data: Mapping[str, Any] = {}
        self.classes: list[str] = []
        self.hints: list[str] = []
        self.titles: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        loads = (str(given[name]) for name in ("src", "href", "srcset", "action", "poster") if name in given)
        self.loads += [place for place in loads if not place.startswith("#")]
        self.hints += [given["data-said"] or ""] if "data-said" in given else []
        self.titles += [given["aria-label"] or ""] if tag == "svg" else []
        self.classes.append(given.get("class") or "")
        if tag not in VOID:
            self.open.append("data" if given.get("id") == "data" else tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() in (tag, "data"), f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "data":
            self.data = orjson.loads(data.replace("<\\/", "</"))
        elif self.open and self.open[-1] not in ("script", "style"):
            self.text[self.open[-1]] = self.text.get(self.open[-1], "") + data + "\n"


def page(runs: Sequence[Run], traces: Mapping[str, Trace] | None = None, title: str | None = None) -> Page:
    """The rendered page, checked as every page must be."""
    experiment = Experiment({}, (), trials=1, seed=3, rejoule_version="0.1.0")
    html = render(runs, TRACES if traces is None else traces, experiment, title)
    assert len(html) < 2_000_000
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|//cdn|@import|url\((?!#)", html)
    assert "nan" not in re.findall(r">(\w+)<", html.lower())
    found = Page(html)
    assert not found.open and not found.loads
    return found


def test_a_whole_experiment() -> None:
    """Two workloads × batch sizes × caps × trials give every picture, with the badge on each that shows joules."""
    found = page(builders.grid(TRACES, [1, 4, None], [300.0, 500.0, None], trials=2), title="A <title> & more")
    drawn = (
        "GPU energy (J) against median workflow latency (s)",
        "workflows an hour a GPU against workflows an hour a user",
    )
    for picture in (*drawn, "nodes of the workflow", "joules by node, every configuration"):
        assert found.titles.count(picture) == 2
    assert set(found.data["maps"]) == {"w0", "w1"} and {"w0-time-0", "w0-time-1"} <= set(found.data["timelines"])
    assert "A <title> & more" in found.text["h1"]
    assert sum("badge" in name for name in found.classes) >= 2 * 6
    parts = ["The answer", "Why", "What moves it", "Known findings", "What to set", "Pictures", "Evidence"]
    assert found.text["h2"].split("\n")[: len(parts)] == parts
    assert all("modelled" in name for name in found.classes if "badge" in name)
    assert "never bound" in found.text["li"]


def test_parts_of_every_configuration_make_up_its_energy() -> None:
    """The shares that the page shows of a configuration, idle with them, add up to 1, as do their phases."""
    cells = page(builders.grid(TRACES, [1, 8], [None])).data["cells"]
    for cell in (cell for cells in cells.values() for cell in cells):
        assert sum(part["share"] for part in cell["parts"]) == pytest.approx(1.0, abs=1e-3)
        for part in cell["parts"]:
            assert sum(share for _, share in part["phases"]) == pytest.approx(part["share"], abs=1e-3)


def test_agents_stand_below_the_nodes() -> None:
    """Where there are several, they make up what the nodes do; where no agent is named, nothing is said of any."""
    plain = builders.grid({"agentic": AGENTIC}, [1, 8], [None])
    found = page([builders.with_agents(run, {"plan": "lead", "write": "writer"}) for run in plain])
    for cell in found.data["cells"]["w0"]:
        assert {part["name"] for part in cell["agents"]} == {"lead", "writer", "no agent"}
        nodes = sum(part["share"] for part in cell["parts"] if part["name"] in builders.CHAIN)
        assert sum(part["share"] for part in cell["agents"]) == pytest.approx(nodes, abs=1e-3)
    assert "By agent" in found.text["h4"]
    bare = page(plain)
    assert "By agent" not in bare.text.get("h4", "") and not any(cell["agents"] for cell in bare.data["cells"]["w0"])


def test_measured_joules_are_called_measured() -> None:
    """The badge names the meter, and the page does not speak of models."""
    found = page([builders.run(AGENTIC, engine="vllm", energy_source="nvml-counter")])
    assert "measured · nvml-counter" in found.text["span"]
    assert not any("modelled" in name for name in found.classes)


def one() -> Run:
    return builders.run(AGENTIC)


def failed() -> Run:
    run = builders.run(AGENTIC, 16)
    broken = replace(run.calls[0], error="HTTP 500", first_token_s=None, output_tokens=None)
    return replace(run, calls=(broken, *run.calls[1:]))


@pytest.mark.parametrize(
    "runs",
    [
        [one()],
        builders.grid({"agentic": AGENTIC}, [1, 8, 64], [None]),
        builders.grid({"agentic": AGENTIC}, [8], [300.0, 400.0]),
        [replace(run, energy=Energy()) for run in builders.grid({"agentic": AGENTIC}, [1, 8], [None])],
        [replace(run, steps=None) for run in builders.grid({"agentic": AGENTIC}, [1, 8], [None])],
        [replace(one(), steps=None, energy=Energy())],
        [replace(one(), steps=(), tools=())],
        [replace(one(), calls=(), workflows=(), tools=(), steps=())],
        [replace(one(), energy=Energy(0.0, source={"gpu": "model:x"}), steps=None)],
    ],
    ids=[
        "one-run",
        "one-cap",
        "one-batch",
        "no-energy",
        "no-steps",
        "neither",
        "empty-steps",
        "no-calls",
        "zero-energy",
    ],
)
def test_thin_folders_still_make_a_page(runs: list[Run]) -> None:
    """Whatever was not varied or not measured, the page is whole and shows a dash where nothing is known."""
    found = page(runs)
    assert "All runs" in found.text["h3"]
    if runs[0].energy.gpu_j is None:
        assert "–" in found.text["td"]
        assert "not measured" in found.text["p"]


def test_a_run_without_its_trace() -> None:
    """Runs whose trace is not at hand are shown without the graph of nodes."""
    assert "card" not in page([one()], {}).classes


def test_that_a_profile_was_not_fitted_is_said_once() -> None:
    """At the head of the page, whatever sections rest on it."""
    told = {"profile": "made-up", "calibrated": False}
    runs = [replace(run, engine={**run.engine, **told}) for run in builders.grid(TRACES, [1, 4, 8], [300.0, None])]
    assert sum(text.count("uncalibrated (made-up)") for text in page(runs).text.values()) == 1


def test_failed_calls_are_warned_of() -> None:
    """Failed calls are counted in a warning, and their configuration is not called the best."""
    found = page([failed(), builders.run(AGENTIC, 1)])
    assert "warnings" in found.classes
    assert "1 call failed" in found.text["li"]
    (workload,) = gather([failed(), builders.run(AGENTIC, 1)], TRACES)
    assert workload.best is not None and workload.best.configuration.max_num_seqs == 1


def test_a_cap_not_in_force_is_warned_of() -> None:
    """A cap that the engine did not put in force is named in the warnings and on its cell."""
    run = builders.run(AGENTIC, 8, 300.0)
    found = page([replace(run, power_cap=PowerCap(300.0, 350.0, 0.0)), builders.run(AGENTIC, 8, 500.0)])
    assert "300 W was asked for, 350 W were in force" in found.text["li"]
    assert "350 W in force" in found.data["maps"]["w0"]["marks"]


def test_the_front_is_what_nothing_beats() -> None:
    """No configuration uses less energy in less time than one on the front, and every other is beaten by one on it."""
    (workload,) = gather(builders.grid({"agentic": AGENTIC}, [1, 2, 4, 8], [None, 300.0]), {"agentic": AGENTIC})

    def beats(a: Any, b: Any) -> bool:
        return bool(a.energy_j <= b.energy_j and a.latency_s <= b.latency_s)

    for cell in workload.cells:
        rivals = [other for other in workload.front if other is not cell and beats(other, cell)]
        assert bool(rivals) != (cell in workload.front)


def test_the_job_front_is_what_nothing_beats() -> None:
    """No configuration serves as many workflows an hour to a user and a GPU, and every other is beaten by one on it."""
    (workload,) = gather(builders.grid({"agentic": AGENTIC}, [1, 2, 4, 8], [None, 300.0]), {"agentic": AGENTIC})
    assert workload.job_front

    def beats(a: Any, b: Any) -> bool:
        return all(x >= y for x, y in zip(a.jobs, b.jobs, strict=True))

    for cell in workload.cells:
        rivals = [other for other in workload.job_front if other is not cell and beats(other, cell)]
        assert bool(rivals) != (cell in workload.job_front)


def test_the_job_pareto_has_every_configuration_that_is_known() -> None:
    """A point each, with its joules a workflow where they were measured; what was not all done is on no front."""
    runs = builders.grid({"agentic": AGENTIC}, [1, 8], [None])
    part = replace(runs[1], workflows=(replace(runs[1].workflows[0], complete=False), *runs[1].workflows[1:]))
    found = page([runs[0], part])
    hover = [said for said in found.hints if "workflows an hour a GPU" in said]
    assert len(hover) == 2 and all("energy per workflow" in said for said in hover)
    assert sum("on no front" in said for said in hover) == 1
    bare = page([replace(run, energy=Energy()) for run in runs])
    assert not any("energy per workflow" in said for said in bare.hints)
    unknown = page([replace(run, engine={}) for run in runs])
    assert not any("workflows an hour" in title for title in unknown.titles)
    assert "how many GPUs served is not known" in unknown.text["li"]


def test_figures_of_workflows_follow_the_chosen_configuration() -> None:
    """Each configuration has its own, and what stands against reading them is said once, of whom it is so."""
    runs = builders.grid({"agentic": AGENTIC}, [1, 8], [None])
    found = page([runs[0], replace(runs[1], steps=None)])
    slow, blind = (dict(cell["flows"]) for cell in found.data["cells"]["w0"])
    assert "slowdown by waiting" in slow and "slowdown by waiting" not in blind
    assert slow["workflow latency p99"].endswith("*")
    assert "batch 8: what waited in the server is not known" in found.text["li"]


def test_nodes_are_layered_in_the_order_of_the_work() -> None:
    """Each node lies in the layer after those that lead to it, with the calls that it made."""
    graph = node_graph(AGENTIC)
    assert graph.layers == (("plan",), ("write",), ("review",))
    assert graph.calls == {"plan": 3, "write": 3, "review": 3}
    assert graph.edges == {("plan", "write"): 3, ("write", "review"): 3}


def test_power_keeps_its_energy_when_thinned() -> None:
    """Thousands of steps become a short line with the same area."""
    steps = tuple(Step(i / 10, (i + 1) / 10, 1, 20.0 + i % 7, decode=(("a", 1),)) for i in range(8000))
    run = replace(one(), steps=steps, makespan_s=800.0)
    line = power_line(run)
    assert line is not None
    times, watts = line.times_s, line.watts
    assert len(times) == len(watts) == MOST_POINTS
    area = sum(w * (b - a) for w, a, b in zip(watts, times, times[1:], strict=False))
    assert area == pytest.approx(sum(s.energy_j or 0.0 for s in steps), rel=1e-3)


def test_one_configuration_says_what_took_the_joules() -> None:
    """With nothing to compare, the headline is the node that takes most, and there is neither heatmap nor front."""
    found = page([one()], {"agentic": AGENTIC})
    assert not found.data["maps"] and found.titles == ["nodes of the workflow"]
    assert "What moves it" not in found.text["h2"]
    assert "of it in " in found.text["p"] and "thriftiest" not in found.text["p"]
    assert "per workflow" in found.text["li"] and "idle" in found.text["li"]


def test_what_a_cap_did_is_said_with_its_batch_size() -> None:
    """A sentence about a cap names the batch size that it holds for."""
    found = page(builders.grid({"agentic": AGENTIC}, [1, 8], [300.0, 700.0]), {"agentic": AGENTIC})
    assert "At batch 8, the 300 W cap held the clock down" in found.text["li"]


def test_a_server_that_somebody_else_started() -> None:
    """Its batch size and cap are not called defaults, and a cap that was not asked for is not called none."""
    runs = [builders.run(AGENTIC, None, cap, engine="host:1/v1", energy_source="nvml-counter") for cap in (None, 300)]
    found = page(runs, {"agentic": AGENTIC})
    assert "as the server was started" in found.text["option"] and "default" not in found.text["option"]
    assert "default" not in found.text["p"]
    ours = page([builders.run(AGENTIC, 8, engine="vllm", energy_source="nvml-counter")], {"agentic": AGENTIC})
    assert "not set by ReJoule" in ours.text["td"] and "none" not in ours.text["td"].split()


def test_power_is_not_invented() -> None:
    """Where only the total was measured there is no line of power, the title promises none, and the basis is said."""
    run = builders.run(AGENTIC, engine="vllm", energy_source="nvml-counter")
    found = page([replace(run, steps=tuple(replace(s, energy_j=None) for s in run.steps or ()))])
    assert found.data["timelines"]["w0-time-0"]["power"] is None
    assert "and the power they drew" not in found.text["h3"]
    assert "the total spread over them by time" in found.text["p"]


def test_mixed_bases_are_warned_of() -> None:
    """Runs whose step records are gone are counted in a warning where others have theirs."""
    blind = replace(builders.run(AGENTIC, 1), steps=None)
    assert "1 of 2 runs without step records" in page([blind, builders.run(AGENTIC, 8)]).text["li"]


def test_small_differences_are_no_headline() -> None:
    """Energies within 2 % of each other are called no difference."""
    runs = [builders.run(AGENTIC, 8, cap, scale=scale) for cap, scale in ((500.0, 1.0), (600.0, 1.01))]
    found = page(runs, {"agentic": AGENTIC})
    assert "no difference" in found.text["p"] and "−1.0 %" not in found.text["p"]


def test_the_page_says_what_made_it() -> None:
    """The first bytes name the generator, so that a page is told from other files."""
    html = render([one()], TRACES, Experiment({}, (), 1, 0, "0.1.0"))
    assert MARK in html[:512]


def test_summary_of_a_run_that_said_nothing() -> None:
    """Counts that a server did not give stay unknown in the sum."""
    run = replace(one(), calls=tuple(replace(c, output_tokens=None, first_token_s=None) for c in one().calls))
    summary = summarise(replace(run, steps=None))
    assert (summary.output_tokens, summary.token_j, summary.ttft_p50_s) == (None, None, None)


def test_page_is_the_same_every_time() -> None:
    """Equal runs make equal pages, byte for byte."""
    experiment = Experiment({}, (), 1, 0, "0.1.0")
    first, second = (render(builders.grid(TRACES, [1, 4], [None]), TRACES, experiment) for _ in range(2))
    assert first == second


def test_readings_are_drawn() -> None:
    """A measured run shows the counter's power, the memory's, the clock, and a shade where the cap bound."""
    run = builders.run(AGENTIC, engine="vllm", energy_source="nvml-counter")
    steps = tuple(replace(step, energy_j=None) for step in run.steps or ())
    readings = tuple(Reading(i / 10, (i + 1) / 10, 50.0 + i, 1980.0, hbm_w=90.0, cap_bound=i % 2) for i in range(20))
    found = page([replace(run, steps=steps, readings=readings)])
    drawn = found.data["timelines"]["w0-time-0"]["power"]
    assert drawn["watts"][:2] == pytest.approx([500.0, 510.0])
    assert set(drawn["clock_mhz"]) == {1980.0} and set(drawn["hbm_w"]) == {90.0}
    assert drawn["bound"][:4] == [0.0, 1.0, 0.0, 1.0]


def test_thinning_keeps_means() -> None:
    """However many readings there are, clock and shade are means over time, and unknown ones are left out."""
    readings = tuple(
        Reading(i / 10, (i + 1) / 10, 1.0, None if i < 4000 else 1500.0, cap_bound=float(i % 2)) for i in range(30_000)
    )
    line = power_line(replace(one(), readings=readings))
    assert line is not None and len(line.times_s) == MOST_POINTS
    assert line.clock_mhz[0] is None and line.clock_mhz[-1] == 1500.0
    assert sum(b or 0.0 for b in line.bound) / MOST_POINTS == pytest.approx(0.5, abs=0.01)


def test_what_was_left_out_is_listed() -> None:
    """Configurations that could not be had are named with their reason, once for all trials."""
    left = replace(one().configuration, power_cap_w=100.0)
    refused = [Refused(f"x-t{trial}", left, "below what the <GPU> allows") for trial in range(3)]
    html = render([one()], TRACES, Experiment({}, (), 1, 0, "0.1.0"), refused=refused)
    assert html.count("100 W cap: below what the &lt;GPU&gt; allows (3 runs)") == 1
    assert "Left out" not in render([one()], TRACES, Experiment({}, (), 1, 0, "0.1.0"))


def test_a_map_has_every_knob_and_every_figure_that_is_known() -> None:
    """The reader may choose any two of the knobs that vary; settings stand in order, what was not set last."""
    runs = builders.grid({"agentic": AGENTIC}, [8, 1, None], [500.0, None])
    longer = [replace(r, id=f"{r.id}x", configuration=replace(r.configuration, output_scale=2.0)) for r in runs]
    found = page([*runs, *longer]).data["maps"]["w0"]
    assert [knob["label"] for knob in found["knobs"]] == ["batch size", "power cap", "output scale"]
    assert found["knobs"][0]["values"] == ["batch 1", "batch 8", "default batch"]
    assert len({tuple(at) for at in found["at"]}) == len(found["cells"]) == 12
    names = {figure["name"] for figure in found["figures"]}
    assert {"GPU energy", "workflow latency p50", "energy per workflow"} <= names and "DRAM energy" not in names


def test_calls_are_packed_whole() -> None:
    """The picture of a run has every call and tool call, however many, with the joules that they were given."""
    run = builders.run(builders.trace(40))
    said, text = packed(summarise(run), "x")
    raw = zlib.decompress(base64.b64decode(text))
    count = said["count"]
    assert count == len(run.calls) + len(run.tools) and len(raw) == 4 * count * len(said["columns"])
    place = [name for name, _ in said["columns"]].index("joules")
    joules = np.frombuffer(raw, "<f4")[place * count : (place + 1) * count]
    found = summarise(run).attribution
    assert found is not None
    whole = sum(call.energy.total_j for call in found.calls)
    assert float(np.nansum(joules)) == pytest.approx(whole, rel=1e-4)
    assert np.isnan(joules).sum() == len(run.tools)


def test_no_name_is_markup() -> None:
    """Nodes, agents, workflows and tools are called as they are, and nothing of it is taken for an element."""
    evil = '"><img src=x onerror=alert(1)>\x07</script><!--'
    source = builders.trace(2, evil, (evil, "b"))
    runs = [replace(builders.run(source, batch, name=evil), trace=evil) for batch in (1, 8)]
    found = page(runs, {evil: source}, evil)
    assert not any("onerror" in name for name in found.classes) and "img" not in found.text
    svg = [picture.svg for w in gather(runs, {evil: source}) for picture in pictures(w)]
    for drawn in svg:
        ElementTree.fromstring(drawn)


def test_what_the_figures_rest_on_is_listed() -> None:
    """Every run's certificate, source and use are in a table, with what speaks against its joules."""
    run = builders.run(AGENTIC, engine="vllm", energy_source="nvml-counter")
    held = Conditions(gpus=("GPU-secret-uuid",), driver="570.1", loaded_w=110.0, rejected=("too short",))
    html = render([replace(run, conditions=held)], TRACES, Experiment({}, (), 1, 0, "0.1.0"))
    assert "no: too short" in html and "nvml-counter" in html and "570.1" in html
    assert "GPU-secret-uuid" not in html


def test_the_advice_keeps_what_was_asked_for() -> None:
    """An objective on the command line is an objective of the page, with its verdict beside each configuration."""
    runs = builders.grid(TRACES, [1, 4], [300.0, None], trials=2)
    experiment = Experiment({}, (), 2, 0, "0.1.0")
    plain = render(runs, TRACES, experiment)
    asked = render(runs, TRACES, experiment, wanted=objectives(["workflow.p50=60s"]))
    assert "No objective was named" in plain and "No objective was named" not in asked
    assert "takes the least joules and keeps workflow latency p50" in asked and ">keeps<" in asked


def test_a_waterfall_leads_from_the_one_to_the_other() -> None:
    """Causes have a picture whose bars are named, and a sentence that says the largest first."""
    found = page(builders.grid(TRACES, [1, 4], [None], trials=2))
    assert found.titles.count("from batch 1 to batch 4, cause by cause") == 2
    assert "mostly" in found.text["p"]
