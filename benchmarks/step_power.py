"""What the records of simulated steps draw, beside what the GPU can: python -m benchmarks.step_power.

Prompts of 4,000 tokens that come one by one into a small batch, with pauses: each is launched while the step before it
runs, so joules can land in the wrong record.
"""

from __future__ import annotations

from rejoule.replay.sim.config import EngineConfig
from rejoule.replay.sim.engine import StepEngine
from rejoule.replay.sim.jobs import SimRequest
from rejoule.replay.sim.shipped import load_profile

CALLS, PROMPT, OUTPUT = 40, 4000, 60
PAUSE_S, BETWEEN_S = 3.0, 0.25
"""Before every eighth call, and between the others."""


def main() -> None:
    engine = StepEngine(EngineConfig(load_profile("h200-llama-3.1-8b"), max_num_seqs=4))
    due_s = 0.0
    for number in range(CALLS):
        due_s += BETWEEN_S if number % 8 else PAUSE_S
        engine.add(SimRequest(f"call-{number}", [number] * PROMPT, OUTPUT), due_s)
    while engine.busy or engine.next_event_s is not None:
        engine.advance()
    watts = [r.energy_j / (r.end_s - r.start_s) for r in engine.log.records if r.end_s > r.start_s]
    print(f"{len(watts)} records draw {min(watts):.0f} to {max(watts):.0f} W.")
    print(f"The GPU rests at {engine.power.idle_w:.0f} W, under a limit of {engine.power.cap_w:.0f} W.")


if __name__ == "__main__":
    main()
