"""Joules a success: the least of them is advised where asked for, and what did not succeed, or may have, never is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf

import pytest
from tests.analysis import builders

from rejoule.analysis.advice import Advice, advise, least, objectives
from rejoule.analysis.summary.cells import gather
from rejoule.traces.errors import RejouleError
from rejoule.traces.run import Configuration, Run

TRACE = builders.trace(4)
PLAIN = builders.run(TRACE, None)
Told = Sequence[bool | None]
NONE, HALF, ALL = (False,) * 4, (True, False, True, False), (True,) * 4
UNKNOWN = (None,) * 4


def run_of(batch: int, joules: float, told: Told, trial: int = 0, measured: bool = False) -> Run:
    engine, source = ("vllm", "nvml-counter") if measured else ("sim", "model:made-up")
    return replace(
        PLAIN,
        id=f"{source}-{batch}-{trial}",
        configuration=Configuration(engine=engine, profile="made-up", max_num_seqs=batch),
        trial=trial,
        workflows=tuple(replace(w, success=said) for w, said in zip(PLAIN.workflows, told, strict=True)),
        steps=None,
        energy=replace(PLAIN.energy, gpu_j=joules, source={"gpu": source}),
    )


def of(runs: Sequence[Run], *slo: str, by: str = "joules.success", **more: object) -> Advice:
    (one,) = advise(gather(runs, {"agentic": TRACE}), objectives(slo), least=least(by), **more)  # type: ignore[arg-type]
    return one


GIVES_UP, WORKS = run_of(1, 100.0, HALF), run_of(4, 150.0, ALL)


def test_what_gives_up_early_is_not_the_least_by_success() -> None:
    """Fewer joules a workflow and half of the successes are more joules a success; unasked, workflows count."""
    found, plain = of([GIVES_UP, WORKS]), of([GIVES_UP, WORKS], by="joules.workflow")
    assert found.best is not None and found.best.label == "batch 4"
    assert "batch 4 takes the least joules a success: 37.5" in found.headline
    assert plain.best is not None and plain.best.label == "batch 1" and "25.0\N{NO-BREAK SPACE}J a w" in plain.headline
    for one in (found, plain):
        shown = {c.label: (c.joules and c.joules.value, c.success_joules, c.succeeded) for c in one.candidates}
        assert shown["batch 1"][0] == pytest.approx(25.0) and shown["batch 1"][2] == 0.5
        assert shown["batch 1"][1] is not None and shown["batch 1"][1].value == pytest.approx(50.0)
        assert any("50.0 % in batch 1; 100 % in batch 4" in note for note in one.notes)


def test_the_saving_is_of_what_is_least() -> None:
    found = of([GIVES_UP, WORKS], today=["max_num_seqs=1"])
    assert found.saving is not None and found.saving.value == pytest.approx(1 - 37.5 / 50)


def test_trials_say_how_sure_joules_a_success_are() -> None:
    """Their interval is that of joules a workflow, for a share taken over as recorded has no error."""
    runs = [run_of(b, j * x, ALL, t, True) for b, j in ((1, 100.0), (4, 90.0)) for t, x in enumerate((1.0, 1.01, 0.99))]
    best = of(runs, "success=100%").best
    assert best is not None and best.success_joules == best.joules and best.chance == 1.0
    assert best.joules is not None and best.joules.low is not None and best.joules.low < best.joules.value


@pytest.mark.parametrize("batch", [1, 16])
def test_where_nothing_succeeded_it_is_infinite(batch: int) -> None:
    """However few joules it took, and in whatever order: it is never the least, and saving against it is all."""
    found = of([run_of(batch, 1.0, NONE), WORKS], today=[f"max_num_seqs={batch}"])
    assert found.best is not None and found.best.label == "batch 4" and found.rivals == ()
    none = next(c for c in found.candidates if c.label == f"batch {batch}")
    assert none.success_joules is not None and none.success_joules.value == inf and none.succeeded == 0.0
    assert found.saving is not None and found.saving.value == 1.0
    assert any(f"batch {batch}: no workflow succeeded" in note for note in found.notes)


def test_where_nothing_succeeded_at_all_nothing_is_advised_or_named() -> None:
    found = of([run_of(1, 1.0, NONE), run_of(4, 2.0, NONE)], more={"max_num_seqs": [64]})
    assert found.best is None and found.confirm == () and "infinite in all" in found.headline
    plain = of([run_of(1, 1.0, NONE), run_of(4, 2.0, NONE)], by="joules.workflow")
    assert plain.best is not None and plain.best.label == "batch 1"


@pytest.mark.parametrize("told", [UNKNOWN, (True, None, True, True)])
def test_where_success_is_not_known_it_is_said_and_not_advised(told: Told) -> None:
    """Not by the least of it, not by a bound on it, and not by a guess from others; nor is it named to be run again."""
    runs = [run_of(1, 1.0, told), WORKS, run_of(8, 140.0, ALL), run_of(16, 145.0, ALL)]
    for found in (of(runs), of(runs, "success=10%", by="joules.workflow"), of(runs, "joules.success=1kJ")):
        assert found.best is not None and found.best.label == "batch 8"
        assert any(note.startswith("batch 1: ") and note.endswith("not known: not advised") for note in found.notes)
        one = next(c for c in found.candidates if c.label == "batch 1")
        assert one.success_joules is None and one.succeeded is None and one not in found.confirm
    assert of(runs, by="joules.workflow").best is not None


def test_where_nobody_said_it_is_refused_with_what_to_do() -> None:
    with pytest.raises(RejouleError, match="nobody said which workflows reached their goal") as error:
        of([run_of(1, 1.0, UNKNOWN), run_of(4, 1.0, UNKNOWN)])
    assert "rejoule label" in error.value.remedy
    longer = [replace(r, configuration=replace(r.configuration, output_scale=2.0)) for r in (GIVES_UP, WORKS)]
    with pytest.raises(RejouleError, match="at other lengths than recorded"):
        of(longer)
    plain = of([run_of(1, 1.0, UNKNOWN), run_of(4, 2.0, UNKNOWN)], by="joules.workflow")
    assert not any("succe" in note for note in plain.notes)


def test_a_share_of_successes_is_an_objective() -> None:
    """At least so much, in per cent or not; that of a recording is exact, and 0 misses."""
    runs = [run_of(1, 1.0, NONE), run_of(4, 2.0, HALF), run_of(8, 3.0, ALL)]
    for bound, label in (("0.5", "batch 4"), ("50%", "batch 4"), ("0.51", "batch 8"), ("100%", "batch 8")):
        found = of(runs, f"success={bound}", by="joules.workflow")
        assert found.best is not None and found.best.label == label and found.best.chance == 1.0
        assert found.candidates[0].verdict == "misses" and found.candidates[0].chance == 0.0


def test_no_run_is_named_for_successes_that_replays_cannot_change() -> None:
    """All replays of a recording have its successes: where they miss the bound, no cell does better."""
    runs = [run_of(b, j, HALF) for b, j in ((1, 3.0), (4, 2.0))]
    more = {"max_num_seqs": [16, 64]}
    found = of(runs, "success=0.9", more=more)
    assert found.best is None and found.confirm == () and found.nearest is not None
    assert found.nearest.label == "batch 4" and {c.verdict for c in found.candidates} == {"misses"}
    assert any("50.0 % of the workflows succeeded wherever that is known" in note for note in found.notes)
    assert of(runs, "success=0.5", more=more).confirm != ()


def test_guesses_of_joules_a_success_are_those_of_a_workflow_by_the_share() -> None:
    """As long as all recordings agree; where they differ, nothing is guessed, named or silent."""
    runs = [run_of(b, j, HALF) for b, j in ((1, 4.0), (4, 3.0), (8, 2.5))]
    more = {"max_num_seqs": [16]}
    found = of(runs, more=more)
    one = next(c for c in found.candidates if c.kind == "predicted")
    assert one.joules is not None and one.success_joules is not None
    assert one.success_joules.value == pytest.approx(2.0 * one.joules.value)
    mixed = of([*runs, WORKS][1:], more=more)
    assert mixed.confirm == () and any("nothing is guessed" in note for note in mixed.notes)
    assert next(c for c in mixed.candidates if c.kind == "predicted").success_joules is None


@pytest.mark.parametrize(
    ("slo", "told"),
    [
        ("success=90", "is more than all"),
        ("success=0", "no bound above 0"),
        ("success<=0.5", "bound on the other side"),
        ("workflow.p50>=3s", "bound on the other side"),
        ("workflow.p50=90%", "has no unit"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(slo: str, told: str) -> None:
    with pytest.raises(RejouleError, match=told):
        of([GIVES_UP, WORKS], slo)
    assert of([GIVES_UP, WORKS], "success>=0.9").best is not None


def test_only_joules_a_workflow_and_a_success_can_be_least() -> None:
    assert least("energy per success") == "joules.success"
    with pytest.raises(RejouleError, match="nothing is advised for the least of 'makespan'"):
        least("makespan")
