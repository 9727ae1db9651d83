"""A quick calibration finds what one card and one host have of their own, from outside of the engine."""

from __future__ import annotations

import asyncio
from dataclasses import replace as changed

import pytest
from msgspec.structs import replace

from rejoule.replay.calibration.child import QuickCalibration, quick_calibrate
from rejoule.replay.calibration.grid import FULL, QUICK, Limits, cells, grid, kind_of
from rejoule.replay.calibration.outside import FIRST, WATTS, Shown, shown
from rejoule.replay.calibration.quick import GridRun, broken, grid_run, moving, scaled
from rejoule.replay.engines.sim import SimEngine
from rejoule.replay.replay import replay
from rejoule.replay.sim.latency import LatencyModel, Work
from rejoule.replay.sim.power import Operation, PowerModel
from rejoule.replay.sim.profile import Profile, fitted_to
from rejoule.replay.sim.shipped import OTHERS, load_profile
from rejoule.traces import RejouleError, Trace
from rejoule.traces.run import CallResult, Conditions, Configuration, Reading, Run
from rejoule.traces.runs import PlannedRun

PARENT = load_profile("h200-llama-3.1-8b")
SMALL = Limits(max_num_seqs=8, max_model_len=2560, kv_tokens=40_000, cell_s=0.45, gap_s=0.4, rest_s=0.6)
WATTS_BY = {"power.idle_w": 0.92, "power.memory_w": 1.15, "power.compute_w": 1.08}
SECONDS_BY = {"timing.host_eager_s": 1.5, "timing.api_per_request_s": 1.3}
CARD = scaled(PARENT, lambda name: (WATTS_BY | SECONDS_BY).get(name, 1.0))
"""Another card in another host."""
UUID, HOST = "GPU-1", "CPU x 8 (abc)"


def ran(profile: Profile = CARD, trace: Trace | None = None, power_cap_w: float | None = None) -> Run:
    """The quick grid on a card and host, as a server would have shown it: without steps, with readings."""
    options = {"num_gpu_blocks": SMALL.kv_tokens // 16}

    async def opened(configuration: Configuration, trace: Trace) -> SimEngine:
        return SimEngine(configuration, trace, profile)

    trace = grid(PARENT, SMALL, kinds=QUICK) if trace is None else trace
    configuration = Configuration(max_num_seqs=SMALL.max_num_seqs, power_cap_w=power_cap_w, options=options)
    run = asyncio.run(replay(trace, PlannedRun("quick", "grid", configuration, 0), "", opened))
    readings = tuple(Reading(s.start_s, s.end_s, s.energy_j or 0.0, s.sm_clock_mhz) for s in run.steps or ())
    return changed(
        run,
        configuration=changed(configuration, engine="http://localhost:1", options={}),
        engine={"num_gpu_blocks": run.engine["num_gpu_blocks"]},
        energy=changed(run.energy, source={"gpu": "nvml-counter"}),
        conditions=Conditions(gpus=(UUID,), gpu_names=(PARENT.gpu.name,), host=HOST, driver="580"),
        readings=readings,
        steps=None,
    )


@pytest.fixture(scope="module")
def run() -> Run:
    return ran()


@pytest.fixture(scope="module")
def found(run: Run) -> QuickCalibration:
    return quick_calibrate(PARENT, "child", [GridRun(run, SMALL)])


@pytest.mark.parametrize("name", WATTS_BY | SECONDS_BY)
def test_what_the_card_and_the_host_have_of_their_own_is_found(found: QuickCalibration, name: str) -> None:
    assert value(found.profile, name) == pytest.approx(value(CARD, name), rel=0.03)


def test_only_constants_of_cards_and_hosts_move(found: QuickCalibration) -> None:
    moved = {name.removeprefix("timing.") for name in found.known if name.startswith("timing.")}
    assert {name for name in PARENT.timing.__struct_fields__ if not name.startswith(("host_", "api_"))}.isdisjoint(
        moved
    )
    kept = {name: getattr(PARENT.timing, name) for name in PARENT.timing.__struct_fields__ if name not in moved}
    assert {name: getattr(found.profile.timing, name) for name in kept} == kept
    for name in ("knee", "voltage_slope", "cap_peak", "cap_window_s"):
        assert getattr(found.profile.power, name) == getattr(PARENT.power, name)
    assert (found.profile.model, found.profile.gpu) == (PARENT.model, PARENT.gpu)


def test_with_tensor_parallelism_the_all_reduce_moves_too() -> None:
    assert "timing.all_reduce_s" in moving(load_profile("h200-llama-3.1-8b-tp2")).keys() - moving(PARENT).keys()


def test_a_call_that_stalled_shows_nothing_of_the_others(run: Run) -> None:
    """As the first one does for which a kernel is loaded."""
    first = next(c for c in run.calls if c.node == "alone-0")
    late = changed(first, first_token_s=first.sent_s + 5, end_s=first.sent_s + 5)
    stalled = changed(run, calls=tuple(late if c is first else c for c in run.calls))
    wait = Shown(FIRST, "alone", 0)
    assert shown(stalled)[wait] == pytest.approx(shown(run)[wait], rel=0.02)


def test_the_child_is_nearer_to_what_was_seen(found: QuickCalibration) -> None:
    assert all(after < 0.02 and after < before for _, before, after in found.errors.values())


def test_what_the_cells_say_little_of_is_named_and_stays(found: QuickCalibration) -> None:
    assert "timing.host_first_s" in found.undetermined
    assert found.profile.timing.host_first_s == pytest.approx(PARENT.timing.host_first_s, rel=0.1)
    assert found.profile.sources["timing.host_first_s"].startswith("not determined")
    assert found.profile.sources["power.memory_w"].startswith("quick calibration")


def test_the_child_names_its_parent_its_card_and_its_host(found: QuickCalibration) -> None:
    told = found.profile.provenance
    assert (told["base"], told["gpus"], told["host"], told["driver"]) == (PARENT.name, UUID, HOST, "580")
    assert fitted_to(found.profile) == {"gpus": [UUID], "hosts": [HOST]}
    assert found.profile.calibrated and found.profile.expected_error is None


def test_cells_are_those_of_the_full_grid_and_last_ninety_seconds() -> None:
    profile, limits = PARENT, Limits()
    full, quick = ({kind_of(cell.name) for cell in cells(profile, limits, kinds)} for kinds in (FULL, QUICK))
    # Filling the cache takes as many prompts as the cells after it need.
    assert {kind for kind in quick if not kind.startswith("prime-")} < full
    options = {"num_gpu_blocks": limits.kv_tokens // 16}

    async def opened(configuration: Configuration, trace: Trace) -> SimEngine:
        return SimEngine(configuration, trace, profile)

    plan = PlannedRun("quick", "grid", Configuration(max_num_seqs=256, options=options), 0)
    assert asyncio.run(replay(grid(profile, limits, kinds=QUICK), plan, "", opened)).makespan_s < 90


def test_a_full_grid_shows_the_same_as_the_quick_one() -> None:
    """But for prompts that join others: how long they wait hangs on where in a step they come."""
    full, quick = ran(PARENT, grid(PARENT, SMALL)), ran(PARENT)
    wanted = {call.node for call in quick.calls}
    a, b = shown(full, wanted), shown(quick, wanted)
    assert a.keys() == b.keys()
    off = {what: a[what] / b[what] - 1 for what in a}
    assert all(abs(by) <= (0.1 if what.kind.startswith("joining") else 0.05) for what, by in off.items()), off


@pytest.fixture(scope="module")
def blind(run: Run) -> Run:
    """Nobody read its watts, and its card is of another kind."""
    assert run.conditions is not None
    around = changed(run.conditions, gpu_names=("NVIDIA B200",))
    return changed(run, readings=None, energy=changed(run.energy, gpu_j=None, source={}), conditions=around)


@pytest.fixture(scope="module")
def timed(blind: Run) -> QuickCalibration:
    return quick_calibrate(PARENT, "x", [GridRun(blind, SMALL)], timing_only=True)


def test_without_power_readings_times_alone_can_be_fitted(blind: Run, timed: QuickCalibration) -> None:
    assert not any(what.what == WATTS for what in shown(blind))
    with pytest.raises(RejouleError, match=r"no power readings.*--timing-only"):
        quick_calibrate(PARENT, "x", [GridRun(blind, SMALL)])
    assert timed.profile.power == PARENT.power
    assert fitted_to(timed.profile) == {"gpus": [], "hosts": [HOST]}
    assert any("are not of this card" in note for note in timed.notes)


def test_modelled_joules_are_no_measurement(run: Run) -> None:
    modelled = changed(run, energy=changed(run.energy, source={"gpu": "model:p"}))
    with pytest.raises(RejouleError, match="are modelled"):
        quick_calibrate(PARENT, "x", [GridRun(modelled, SMALL)])


def test_runs_of_another_trace_are_refused(run: Run) -> None:
    other = changed(run, calls=tuple(changed(call, node="planner") for call in run.calls))
    with pytest.raises(RejouleError, match="no cells of the quick grid"):
        quick_calibrate(PARENT, "x", [GridRun(other, SMALL)])


def test_runs_of_other_traces_beside_the_grid_are_left_out_and_said(run: Run) -> None:
    other = changed(run, id="batch-1", calls=tuple(changed(call, node="answer") for call in run.calls))
    child = quick_calibrate(PARENT, "x", [GridRun(other, SMALL), GridRun(run, SMALL)], timing_only=True)
    assert "batch-1" not in child.profile.provenance["runs"]
    assert any("1 run of other traces left out, first batch-1" in note for note in child.notes)


def test_limits_are_those_of_the_trace_or_else_of_the_server(run: Run) -> None:
    trace = grid(PARENT, SMALL, kinds=QUICK)
    assert grid_run(run, trace).limits == SMALL
    assert grid_run(run).limits.kv_tokens == SMALL.kv_tokens


def test_cells_whose_calls_failed_are_left_out_and_said(run: Run) -> None:
    failed = changed(
        run, calls=tuple(changed(c, error="HTTP 500") if c.node == "prefill-n256-c0" else c for c in run.calls)
    )
    assert broken(failed) == {"prefill-n256-c0"}
    child = quick_calibrate(PARENT, "x", [GridRun(failed, SMALL)], timing_only=True)
    assert any("1 cell left out" in note and "HTTP 500" in note for note in child.notes)
    nothing = changed(run, calls=tuple(changed(c, error="HTTP 500") for c in run.calls))
    with pytest.raises(RejouleError, match=r"no cell of the grid was answered whole.*HTTP 500"):
        quick_calibrate(PARENT, "x", [GridRun(nothing, SMALL)], timing_only=True)


def test_what_the_server_does_not_tell_is_what_the_grid_was_made_for(run: Run) -> None:
    child = quick_calibrate(PARENT, "x", [GridRun(changed(run, engine={}), SMALL)], timing_only=True).profile
    assert child.serving.max_num_seqs == SMALL.max_num_seqs
    assert child.serving.num_gpu_blocks * child.serving.block_size == SMALL.kv_tokens


def test_a_child_that_does_not_explain_its_own_cells_is_not_to_be_trusted(run: Run) -> None:
    def times(call: CallResult) -> float:
        return 3.0 if call.node == "decode-b8-c128" else 1.0

    calls = tuple(changed(c, end_s=c.sent_s + (c.end_s - c.sent_s) * times(c)) for c in run.calls)
    slow = changed(run, calls=calls)
    child = quick_calibrate(PARENT, "x", [GridRun(slow, SMALL)], timing_only=True)
    assert any("do not trust the child" in note for note in child.notes)


def test_watts_that_were_measured_are_of_the_childs_own_card(found: QuickCalibration, timed: QuickCalibration) -> None:
    assert found.profile.clock_curve is not None and found.profile.clock_curve.own_card
    assert timed.profile.clock_curve == PARENT.clock_curve


def test_under_caps_the_clock_curve_is_found_from_outside_too() -> None:
    """Of a card whose voltage and bandwidth follow the clock otherwise: watts and time under any cap within 5 %."""
    bent = {"knee": 0.85, "voltage_slope": 1.1, "voltage_sag": 0.8, "floor": 0.42}
    card = replace(CARD, power=replace(CARD.power, **bent), timing=replace(CARD.timing, memory_knee=0.5))
    grids = [GridRun(ran(card, power_cap_w=cap_w), SMALL) for cap_w in (None, 250)]
    child = quick_calibrate(PARENT, "capped", grids)
    curve = child.profile.clock_curve
    assert curve is not None and curve.basis == "measured" and curve.known_from_w == pytest.approx(250, rel=0.01)
    assert not any("capped" in note for note in child.notes)
    for work in (Work(prefills=1, prefill_tokens=2000, prefill_pairs=2e6), Work(decodes=8, decode_context=16_000)):
        for cap_w in range(250, 601, 50):
            a, b = (steady(p, work, cap_w) for p in (card, child.profile))
            assert b.power_w == pytest.approx(a.power_w, rel=0.05), cap_w
            assert b.step_s == pytest.approx(a.step_s, rel=0.05), cap_w


def test_a_child_of_a_fit_of_other_models_is_one_still(blind: Run) -> None:
    """A quick calibration moves a few constants: the others stay those of models that are not its own."""
    parent = replace(PARENT, provenance={OTHERS: "h200-a, h200-b"})
    child = quick_calibrate(parent, "x", [GridRun(blind, SMALL)], timing_only=True)
    assert child.profile.provenance[OTHERS].startswith("h200-a, h200-b, but for")
    assert any("what a quick calibration leaves is of those" in note for note in child.notes)


def test_another_kind_of_card_than_the_parents_is_said(timed: QuickCalibration) -> None:
    assert any("measured on NVIDIA B200" in note for note in timed.notes)


def steady(profile: Profile, work: Work, cap_w: float) -> Operation:
    latency = LatencyModel(profile, SMALL.max_num_seqs)
    return PowerModel(profile, latency, cap_w).operate(latency.demand(work))


def value(profile: Profile, name: str) -> float:
    part, _, field = name.partition(".")
    return float(getattr(getattr(profile, part), field))
