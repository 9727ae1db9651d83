"""What an engine has done: its totals, and step by step where records are kept."""

from __future__ import annotations

from rejoule.replay.sim.lockstep import Lockstep
from rejoule.replay.sim.records import StepRecord
from rejoule.replay.sim.scheduler import Plan


class StepLog:
    """Adds up records. Without ``keep`` it forgets each of them, so that a run of any length needs no memory."""

    def __init__(self, keep: bool) -> None:
        self.records: list[StepRecord] = []
        self.end_s = 0.0
        """Until when it tells."""
        self.energy_j = 0.0
        self.idle_j = 0.0
        self.busy_s = 0.0
        self.bound_s = 0.0
        """How long the power cap held the clock down."""
        self.attainable = True
        self._keep = keep
        self._preempted: tuple[str, ...] = ()
        self._members: tuple[int, tuple[str, ...], tuple[int, ...]] = (-1, (), ())

    def add(self, record: StepRecord) -> None:
        """A step is over, or a gap."""
        self.end_s = record.end_s
        self.energy_j += record.energy_j
        if record.idle:
            self.idle_j += record.energy_j
        else:
            seconds = record.end_s - record.start_s
            self.busy_s += seconds
            self.bound_s += seconds * record.cap_bound
            self.attainable &= record.attainable
        if self._keep:
            self.records.append(record)

    def add_joules(self, energy_j: float) -> None:
        """What the GPU took for a step while the last one here was not over."""
        self.energy_j += energy_j
        if self._keep:
            self.records[-1] = self.records[-1]._replace(energy_j=self.records[-1].energy_j + energy_j)

    def note_preempted(self, plan: Plan) -> None:
        """Nothing is computed as ``plan`` says; the next record tells whom it preempted."""
        self._preempted += tuple(job.request.id for job in plan.preempted)

    def detailed(self, record: StepRecord, plan: Plan, decoding: Lockstep) -> StepRecord:
        """``record`` with the requests of its ``plan``, if it will be kept."""
        if self._keep:
            ids, bases = self._decoding(plan, decoding)
            record = record._replace(
                prefill=tuple([(c.job.request.id, c.tokens, c.cached) for c in plan.chunks]),
                prefill_context=tuple([c.context for c in plan.chunks]),
                decode_ids=ids,
                decode_bases=bases,
                context_tokens=plan.decode_context,
                preempted=(*self._preempted, *(job.request.id for job in plan.preempted)),
                tick=decoding.tick,
            )
        self._preempted = ()
        return record

    def _decoding(self, plan: Plan, decoding: Lockstep) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """The requests that decode in this step, and their bases."""
        if self._members[0] != decoding.version:
            self._members = decoding.version, tuple(decoding.jobs), tuple(decoding.bases.values())
        _, ids, bases = self._members
        if plan.skipped:
            rest = decoding.bases.copy()
            for job in plan.skipped:
                del rest[job.request.id]
            ids, bases = tuple(rest), tuple(rest.values())
        return ids, bases
