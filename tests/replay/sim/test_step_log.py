"""What is added up of an engine's steps, and what each record tells."""

from __future__ import annotations

from rejoule.replay.sim.jobs import Job, SimRequest
from rejoule.replay.sim.lockstep import Lockstep
from rejoule.replay.sim.records import StepRecord, idle_record
from rejoule.replay.sim.scheduler import Plan
from rejoule.replay.sim.step_log import StepLog

STEP = StepRecord(0.0, 0.5, 1, 100.0, 1980.0, True, True, 0.5, 0.0)


def decoding(*names: str) -> tuple[Lockstep, list[Job]]:
    lockstep, jobs = Lockstep(16), [Job(SimRequest(name, [0] * 10, 5), 0.0, i) for i, name in enumerate(names)]
    for job in jobs:
        job.computed, job.produced = 10, 1
        lockstep.join(job)
    return lockstep, jobs


def test_gaps_count_as_idle_and_steps_as_busy() -> None:
    """Totals are of all records, kept or not; one step above an unattainable cap marks the whole."""
    for keep in (True, False):
        log = StepLog(keep)
        log.add(STEP)
        log.add(idle_record(0.5, 2.0, 30.0, 1980.0))
        log.add(STEP._replace(start_s=2.0, end_s=2.25, cap_bound=False, attainable=False))
        log.add(STEP._replace(start_s=2.25, end_s=3.25, steps=2))
        assert (log.energy_j, log.idle_j, log.busy_s, log.bound_s, log.attainable) == (330.0, 30.0, 1.75, 1.5, False)
        assert len(log.records) == 4 * keep


def test_joules_of_the_next_step_in_the_time_of_the_last_record_are_added_to_it() -> None:
    """The total has them, whether records are kept or not."""
    for keep in (True, False):
        log = StepLog(keep)
        log.add(STEP)
        log.add_joules(25.0)
        assert log.energy_j == 125.0
        assert [record.energy_j for record in log.records] == [125.0] * keep


def test_a_record_names_who_decodes_without_those_who_miss_the_step() -> None:
    """Who was skipped gets no token, and those who joined since the last record are named too."""
    log = StepLog(keep=True)
    lockstep, (a, b) = decoding("a", "b")
    assert log.detailed(STEP, Plan([], 2, 20, [], []), lockstep).decode_ids == ("a", "b")
    assert log.detailed(STEP, Plan([], 1, 10, [], [a]), lockstep).decode_ids == ("b",)
    lockstep.leave(b)
    assert log.detailed(STEP, Plan([], 1, 10, [], []), lockstep).decode_ids == ("a",)


def test_whoever_was_preempted_in_an_empty_step_is_told_by_the_next_record() -> None:
    """A plan with nothing to compute makes no record of its own, and its preemptions are told once."""
    log = StepLog(keep=True)
    lockstep, (a, b) = decoding("a", "b")
    log.note_preempted(Plan([], 0, 0, [a], []))
    assert log.detailed(STEP, Plan([], 0, 0, [b], []), lockstep).preempted == ("a", "b")
    assert log.detailed(STEP, Plan([], 0, 0, [], []), lockstep).preempted == ()
