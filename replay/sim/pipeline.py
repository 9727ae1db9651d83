"""When the outputs of engine steps are out: host and GPU work at the same time.

vLLM's engine launches a step while the GPU computes the one before it, and takes over that one's output only then
(``v1/engine/core.py``: ``step_with_batch_queue``). Let g_k be what the GPU needs for step k, and h_k what the host
needs to choose and launch it, which it begins when it has taken over the output O_{k-2}:

    H_k = O_{k-2} + h_k                               launched
    G_k = max(max(G_{k-1}, O_{k-2}) + g_k, H_k + r)   computed: kernels run as they are launched, the last ones take r
    O_k = max(G_k, H_{k+1})                           its output is out

A step before which there was nothing to do is launched at once, and the next one as soon as that is done. So prompts
delay the output of the step before theirs, by as much as the host needs for them.

Of one CUDA graph, which a step that only decodes is, no kernel runs before all are launched. Equal decode steps are
costed from the output before them on, which comes to that behind prompts; one by itself begins too early there, by up
to h - r.

Several GPUs have a process each that launches (``v1/executor/multiproc_executor.py``): the engine hands a step over and
goes on, and a thread of the process (``WorkerProc.async_output_busy_loop``) tells it of an output while the next one is
launched. Launches wait for each other, and outputs for none of them:

    H_k = max(H_{k-1}, O_{k-2}) + h_k
    O_k = G_k

The step after one before which there was nothing to do is then chosen at once. So prompts delay their own output, and a
request that arrives while they are launched is in the step after next: the next one was chosen by then. Behind a launch
that took long nothing hides that of the next step, and if that is one CUDA graph, all of it is computed only then:
G_k = max(G_{k-1}, H_k) + g_k.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rejoule.replay.sim.jobs import Job
from rejoule.replay.sim.latency import Demand
from rejoule.replay.sim.power import PowerModel
from rejoule.replay.sim.records import StepRecord, idle_record


def span_s(
    steps: Sequence[tuple[float, float]], first_s: float | None, next_host_s: float, last_kernels_s: float = 0.0
) -> float:
    """How long some steps in a row take, each (g, h), from the last output before them to their own last.

    ``first_s`` is ``None`` if the first of them was launched by then; otherwise there was nothing to do before, and
    its launch begins so many seconds later. ``next_host_s`` is h of the step after them, ``last_kernels_s`` is r.
    """
    (gpu_s, host_s), *rest = steps
    chosen_s = 0.0
    computed_s = gpu_s
    if first_s is not None:
        chosen_s = first_s + host_s
        computed_s = max(first_s + gpu_s, chosen_s + last_kernels_s)
    for gpu_s, host_s in (*rest, (0.0, next_host_s)):
        launched_s = chosen_s + host_s
        out_s = max(computed_s, launched_s)
        computed_s = max(max(computed_s, chosen_s) + gpu_s, launched_s + last_kernels_s)
        chosen_s = out_s
    return chosen_s


def workers_span_s(
    steps: Sequence[tuple[float, float, bool]], first_s: float | None, last_kernels_s: float = 0.0
) -> float:
    """``span_s`` where processes of their own launch; each step is (g, h, whether it is one CUDA graph)."""
    (gpu_s, host_s, whole), *rest = steps
    chosen_s = first_s or 0.0
    # If it was launched before, so was one like it: the slower of host and GPU set the pace.
    launched_s = max(0.0, host_s - gpu_s) if first_s is None else chosen_s + host_s
    computed_s = _computed_s(chosen_s, launched_s, gpu_s, 0.0 if first_s is None else last_kernels_s, whole)
    for gpu_s, host_s, whole in rest:
        launched_s = max(launched_s, chosen_s) + host_s
        out_s = _computed_s(max(computed_s, chosen_s), launched_s, gpu_s, last_kernels_s, whole)
        chosen_s, computed_s = computed_s, out_s
    return computed_s


def _computed_s(begins_s: float, launched_s: float, gpu_s: float, last_kernels_s: float, whole: bool) -> float:
    return max(begins_s, launched_s) + gpu_s if whole else max(begins_s + gpu_s, launched_s + last_kernels_s)


class Flight(NamedTuple):
    """A step whose output is not out yet, or equal ones of which all but the last are over."""

    record: StepRecord
    """Until its output is out, its ``end_s`` is when the GPU is done."""
    skipped: Sequence[Job]
    decodes: int = 0
    """How many requests have a token of each of its steps, beside ``firsts``."""
    firsts: Sequence[Job] = ()
    finished: Sequence[Job] = ()
    told: Sequence[tuple[Job, int]] = ()
    """Whose senders learn that so many tokens have come."""

    @property
    def computed_s(self) -> float:
        return self.record.end_s


class Launch(NamedTuple):
    """A step was launched, and ``landed`` is the one that was in flight before."""

    start_s: float
    """When the step's record starts."""
    begins_s: float
    """When the GPU can begin."""
    launched_s: float
    landed: Flight | None


class Pipeline:
    """Host and GPU, with one step at most in flight. ``now_s`` is when the next step can be chosen.

    ``ahead`` says that it is chosen while another one is in flight, ``workers`` that processes of their own launch.
    """

    def __init__(self, power: PowerModel, ahead: bool, workers: bool = False) -> None:
        self.now_s = 0.0
        self.flight: Flight | None = None
        self.first = True
        """Whether the next step is one before which there was nothing to do."""
        self.power = power
        self._ahead = ahead
        self._workers = workers
        self._launched_s = 0.0
        """When workers are done with all launches."""

    def launch(self, demand: Demand, whole: bool = False) -> Launch:
        """Launch a step from now on, and land the one in flight; ``whole`` says that it is one CUDA graph."""
        self.first = False
        chosen_s = self.now_s + demand.first_s
        launched_s = (max(chosen_s, self._launched_s) if self._workers else chosen_s) + demand.host_s
        self._launched_s = launched_s
        least_s = launched_s if whole and self._workers else chosen_s
        flight = self.flight
        if flight is None:
            start_s = self.now_s
            if self._ahead:
                self.now_s = chosen_s if self._workers else launched_s
            return Launch(start_s, least_s, launched_s, None)
        computed_s = flight.computed_s
        begins_s = max(computed_s, least_s)
        if begins_s > computed_s:
            self.power.hold(self.power.idle_w, computed_s)
        landed = self.land(computed_s if self._workers else max(computed_s, launched_s))
        return Launch(self.now_s, begins_s, launched_s, landed)

    def repeat(self, steps: int, host_s: float) -> None:
        """So many more steps like the one just launched follow: back to back, where a launch takes longer than the GPU.

        Where they do not, workers wait to be told of the next, and are done with these earlier than it is chosen.
        """
        self._launched_s += steps * host_s

    def fly(self, record: StepRecord, skipped: Sequence[Job], begins_s: float, decodes: int = 0) -> float:
        """What was launched is in flight, computed from ``begins_s`` on; its ``record`` lacks the joules of rest.

        Returned are the joules that it takes before its record starts: they lie in the time of the one before.
        """
        early_s = record.start_s - begins_s
        early_j = record.energy_j * early_s / (record.end_s - begins_s) if early_s > 0.0 else 0.0
        self.flight = Flight(record._replace(energy_j=record.energy_j - early_j), skipped, decodes)
        return early_j

    def land(self, out_s: float | None = None) -> Flight:
        """The output of the step in flight is out at ``out_s``, or when the GPU is done."""
        flight = self.flight
        assert flight is not None
        record = flight.record
        self.flight, self.now_s = None, record.end_s if out_s is None else out_s
        resting_j = self.power.idle_w * (self.now_s - record.start_s)
        record = record._replace(end_s=self.now_s, energy_j=record.energy_j + resting_j)
        return flight._replace(record=record)

    def rest(self, until_s: float) -> StepRecord:
        """There is nothing to do until then."""
        start_s, self.now_s, self.first = self.now_s, until_s, True
        idle_w = self.power.idle_w
        self.power.hold(idle_w, start_s)
        return idle_record(start_s, until_s, idle_w * (until_s - start_s), self.power.idle_clock_mhz)
