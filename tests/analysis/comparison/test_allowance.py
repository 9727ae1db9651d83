"""What no trial shows is said, and counted: another card, the model's error, joules that should not be used."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.analysis import builders

from rejoule.analysis.comparison.allowance import BETWEEN_CARDS, LEAD
from rejoule.analysis.comparison.row import Row
from rejoule.analysis.diff import Diff, compare
from rejoule.analysis.energy import extremes, spent
from rejoule.analysis.methods import side_by_side
from rejoule.analysis.pairing import in_turns, pair
from rejoule.analysis.report.findings import findings
from rejoule.analysis.summary.cells import gather
from rejoule.analysis.summary.lines import RESERVED, line
from rejoule.traces.run import Conditions, Run

TRACE = builders.trace(4)
NOISE = (1.0, 1.004, 0.997, 1.002, 0.999)


def measured(factors: tuple[float, ...], gpu: str = "GPU-1", batch: int = 8) -> list[Run]:
    return [
        replace(
            builders.run(TRACE, batch, trial=t, scale=f, engine="vllm", energy_source="nvml-counter"),
            conditions=Conditions(gpus=(gpu,)),
        )
        for t, f in enumerate(factors)
    ]


def modelled(batch: int, scale: float = 1.0, **engine: Any) -> Run:
    return replace(builders.run(TRACE, batch, scale=scale), engine={"profile": "made-up", **engine})


KNOWN = {
    "source": "made up",
    "knobs": ["max_num_seqs"],
    "differences": 72,
    "metrics": {LEAD: {"median": 0.01, "p95": 0.05, "worst": 0.07}},
}


def lead(found: Diff) -> Row:
    return next(row for row in found.rows if row.name == LEAD)


def noted(found: Diff, words: str) -> bool:
    return any(words in note for note in found.notes)


def test_another_card_is_said_and_allowed_for() -> None:
    """10 % less on another GPU is no finding, half as much is; on the same GPU both are."""
    base = measured(NOISE)
    for factor, gpu, verdict in ((0.9, "GPU-2", "cannot tell"), (0.5, "GPU-2", "less"), (0.9, "GPU-1", "less")):
        found = compare(pair(base, measured(tuple(factor * n for n in reversed(NOISE)), gpu)))
        assert lead(found).verdict == verdict
        assert noted(found, "different GPUs (GPU-1; GPU-2)") is (gpu == "GPU-2")
        assert lead(found).allowance == (BETWEEN_CARDS[LEAD] if gpu == "GPU-2" else None)


@pytest.mark.parametrize(("option", "known"), [("idle_s", True), ("warm_up", True), ("enforce_eager", False)])
def test_what_a_run_is_measured_with_takes_no_error_away(option: str, known: bool) -> None:
    """The model's error on batch sizes is known, whatever idle stretch or warm-up runs were given beside."""
    one, other = (modelled(batch, expected_error=KNOWN) for batch in (1, 8))
    turned = replace(other, configuration=replace(other.configuration, options={option: 1}))
    found = compare(pair([one], [turned]))
    assert (lead(found).allowance is not None) is lead(found).error_known is known
    assert noted(found, "no error is known for differences") is not known


def test_what_is_a_figure_by_a_count_has_its_error() -> None:
    """Joules a workflow are off as joules are, workflows an hour a GPU as the makespan; of others nothing is known."""
    found = compare(pair(measured(NOISE), measured(NOISE, "GPU-2")))
    rows = {row.name: row.allowance for row in found.of("workflows")}
    assert rows["energy per workflow"] == BETWEEN_CARDS[LEAD]
    assert rows["workflows an hour a GPU"] == BETWEEN_CARDS["makespan"]
    assert rows["slowdown by waiting"] is None


def test_cards_that_both_sides_used_alike_are_noise() -> None:
    """Where each GPU served A as often as B, the trials' spread holds what cards differ by."""
    a, b = measured(NOISE[:4]), measured(NOISE[:4])
    a, b = ([replace(r, conditions=Conditions(gpus=(f"GPU-{(i + s) % 2}",))) for i, r in enumerate(x)] for s, x in
            enumerate((a, b)))  # fmt: skip
    found = compare(pair(a, b))
    assert noted(found, "each as often for A as for B") and lead(found).allowance is None


def test_rejected_joules_get_no_verdict() -> None:
    """They are shown with the reason; other figures are judged, and --allow-rejected judges all."""
    a, b = measured(NOISE), measured(tuple(0.5 * n for n in reversed(NOISE)))
    hot = [replace(run, conditions=Conditions(gpus=("GPU-1",), rejected=("throttled by heat",))) for run in b]
    found = compare(pair(a, hot))
    row = lead(found)
    assert (row.verdict, row.withheld, row.p, row.interval) == ("cannot tell", "throttled by heat", None, None)
    assert row.a > row.b > 0.0 and "rejected: throttled by heat" in found.headlines[0]
    assert all(r.withheld for r in found.rows if r.unit in ("J", "W"))
    assert next(r for r in found.rows if r.name == "makespan").withheld is None
    assert lead(compare(pair(a, hot), allow_rejected=True)).verdict == "less"
    some = compare(pair(a, [*hot[:2], *b[2:]]))
    assert (lead(some).pairs, lead(some).verdict) == (3, "less")
    assert noted(some, "joules of 2 pairs with a rejected run are not judged; --allow-rejected")


def test_runs_without_a_counterpart_are_named() -> None:
    """A third trial of one side is left out, and both the note and the record say which."""
    found = compare(pair(measured(NOISE[:2]), measured(NOISE[:3], batch=1)))
    assert noted(found, "1 run of B without a counterpart left out: agentic trial 2")
    assert [(run.side, run.trial) for run in found.left_out] == [("B", 2)]


def test_sides_that_did_not_take_turns_are_noted() -> None:
    """All runs of A before those of B: what drifts is in the difference, and is said."""
    pairs = pair(measured(NOISE[:2]), measured(NOISE[:2], batch=1))
    ids = [run.id for p in pairs for run in (p.a, p.b)]
    assert in_turns(ids, pairs) and not in_turns([*ids[::2], *ids[1::2]], pairs)
    assert noted(compare(pairs, in_turns=False), "did not take turns") and not noted(compare(pairs), "take turns")


def test_nodes_never_take_the_place_of_reserved_lines() -> None:
    """Nodes called as the lines without work are quoted, and everything still adds up, in every command."""
    names = {"plan": "idle", "write": "tool wait", "review": '"idle"'}
    runs = [
        replace(run, calls=tuple(replace(c, node=names.get(c.node, c.node)) for c in run.calls))
        for run in (builders.run(TRACE, 8), builders.run(TRACE, 8, trial=1))
    ]
    rows = [row for row in compare(pair(runs, runs)).rows if row.scope == "node"]
    assert {row.name for row in rows} >= {'"idle"', '"tool wait"', '""idle""', "idle"}
    assert sum(row.a for row in rows) == pytest.approx(runs[0].energy.gpu_j)
    (found,) = spent(runs)
    assert len({part.name for part in found.parts}) == len(found.parts)
    assert sum(part.energy_j for part in found.parts) == pytest.approx(found.gpu_j)
    assert any('in quotes: "idle"' in note for note in found.notes)
    (compared,) = side_by_side(runs)
    assert compared.rows[-1].joules["attributed"] == pytest.approx(found.gpu_j)
    assert '"idle"' in gather(runs, {})[0].cells[0].nodes
    assert len({line(name) for name in (*RESERVED, *map(line, RESERVED))} & RESERVED) == 0


@pytest.mark.parametrize(("scale", "verdict"), [(0.979, "cannot tell"), (0.9, "less")])
def test_a_modelled_difference_carries_the_models_error(scale: float, verdict: str) -> None:
    """2.1 % less is within a known error of 5 %, 10 % is not; interval, note and headline say so."""
    a = modelled(8, expected_error=KNOWN)
    b = replace(modelled(8, scale, expected_error=KNOWN), configuration=replace(a.configuration, max_num_seqs=64))
    found = compare(pair([a], [b]))
    row = lead(found)
    assert (row.verdict, row.allowance) == (verdict, 0.05) and row.interval is not None and row.p is None
    assert (1 + row.interval.high) == pytest.approx(scale * 1.05)
    assert "within the model's known error" in found.headlines[0]
    assert noted(found, "allow for that of 95 of 100")


@pytest.mark.parametrize(
    ("engine", "knob", "words"),
    [
        ({}, "max_num_seqs", "do not say how far the profile made-up is off"),
        ({"expected_error": None}, "max_num_seqs", "no error is known for the profile made-up"),
        ({"expected_error": KNOWN}, "power_cap_w", "no error is known for differences in power cap"),
    ],
)
def test_an_unknown_error_is_called_unknown(engine: dict[str, Any], knob: str, words: str) -> None:
    """Old runs, profiles from data sheets and knobs that were never held against a GPU: no error is known, and why."""
    a, b = modelled(8, **engine), modelled(8, 0.9, **engine)
    changed: dict[str, Any] = {knob: 300}
    b = replace(b, configuration=replace(b.configuration, **changed))
    found = compare(pair([a], [b]))
    assert noted(found, words) and lead(found).allowance is None and lead(found).verdict == "less"


@pytest.mark.parametrize(("error", "allowed", "known"), [(None, 0.2, False), (KNOWN, 0.25, True)])
def test_an_assumed_clock_curve_leaves_as_much_open_where_no_error_is_known(
    error: object, allowed: float, known: bool
) -> None:
    """A profile of which less is known gets no surer verdict."""
    curve = {"caps": [{"at": 250.0, "metrics": {LEAD: 0.2}}], "clocks": [], "known_from_w": 700.0}
    a, b = (modelled(8, scale, expected_error=error, clock_curve=curve) for scale in (1.0, 0.9))
    a = replace(
        a, configuration=replace(a.configuration, power_cap_w=250.0), power_cap=replace(a.power_cap, bound_fraction=0.9)
    )
    row = lead(found := compare(pair([a], [b])))
    assert (row.verdict, row.error_known) == ("cannot tell", known) and noted(found, "±20 % at 250 W")
    assert row.allowance == pytest.approx(allowed)


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        ({"enforce_eager": True}, 0.2),
        ({"async_scheduling": False}, 0.05),
        ({"enforce_eager": True, "async_scheduling": False}, 0.22),
        ({"kv_cache_dtype": "fp8"}, None),
        ({"enforce_eager": True, "kv_cache_dtype": "fp8"}, None),
    ],
)
def test_an_options_own_error_is_allowed_for_where_it_is_worse(options: dict[str, Any], allowed: float | None) -> None:
    """Those of options that were held against a GPU, added up; of any other no error is known."""
    turned = {
        name: {"values": [value], "workloads": ["w"], "metrics": {LEAD: {"worst": worst}}}
        for name, value, worst in (("enforce_eager", True, 0.2), ("async_scheduling", False, 0.02))
    }
    a, b = (modelled(8, scale, expected_error=KNOWN | {"options": turned}) for scale in (1.0, 0.9))
    b = replace(b, configuration=replace(b.configuration, options=options))
    found = compare(pair([a], [b]))
    assert lead(found).allowance == (None if allowed is None else pytest.approx(allowed))
    assert noted(found, "no error is known for differences in KV type" if allowed is None else "that made-up predicted")


def test_least_and_most_are_marked_beyond_the_models_error_only() -> None:
    """Of modelled configurations 2.1 % apart neither is marked, and the report does not call one thriftier."""
    for scale, told in ((0.97, False), (0.8, True)):
        a = modelled(8, expected_error=KNOWN)
        b = replace(modelled(8, scale, expected_error=KNOWN), configuration=replace(a.configuration, max_num_seqs=64))
        end = extremes(spent([a, b]), [a, b])
        assert ((end.least, end.most) == ("batch 64", "batch 8")) is told and end.error == 0.05 and end.notes
        (workload,) = gather([a, b], {})
        found = findings(workload)
        assert ("cannot tell" in found.caption) is not told
        assert any("were off by" in sentence for sentence in found.sentences)
