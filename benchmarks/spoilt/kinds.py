"""One of everything that ReJoule stores or is given, and how it is read: in this process, and by the command line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from operator import eq
from pathlib import Path
from typing import Any, Final

import rejoule
from rejoule.replay.cli.experiment_file import read as read_experiment_file
from rejoule.replay.energy.samples import Chain, header, lost_record, read_samples
from rejoule.replay.knobs.journal import Found
from rejoule.replay.knobs.journal import read as read_journal
from rejoule.replay.knobs.journal import write as write_journal
from rejoule.replay.sim.shipped import FOLDER, load_profile
from rejoule.traces.formats.mooncake import workflows
from rejoule.traces.model import Trace
from rejoule.traces.refused import Refused, load_refused, save_refused
from rejoule.traces.run import Reading
from rejoule.traces.runs import load_runs, save_run
from rejoule.traces.store import load, save
from rejoule.traces.testing import random_trace

TOML: Final = b'traces = ["t.jsonl"]\ntrials = 2\n[configuration]\nengine = "sim"\n[sweep]\nmax_num_seqs = [1, 8]\n'
MOONCAKE: Final = b'{"timestamp": 5, "input_length": 600, "output_length": 20, "hash_ids": [1, 2]}\n' * 3
GPU: Final = "GPU-0"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file."""

    name: str
    pattern: str
    """Finds the one file within the folder."""
    read: Callable[[Path], object]
    """What the folder's file says. Raises RejouleError."""
    words: tuple[str, ...]
    """Of a command that reads it, run in the folder."""
    sealed: bool = True
    """Whether ReJoule wrote it, so that no damage may change what is read; the others are people's to edit."""
    same: Callable[[Any, Any], bool] = eq

    def file(self, folder: Path) -> Path:
        return next(folder.glob(self.pattern))


def _samples(folder: Path) -> tuple[object, ...]:
    found = read_samples(folder / "g.samples")
    reads = found.gpus[0].records
    return (found.driver, found.period_s, found.wall_offset_s, found.gpus[0].uuid, *(read.tobytes() for read in reads))


def _or_edited(found: Trace, wanted: Trace) -> bool:
    """A trace of another length is taken as edited, and said to be."""
    return found.edited or found == wanted


def _begun(found: Any, wanted: Any) -> bool:
    """The sampler may end at any time: what was cut at the end was not read."""
    return len(found) >= 4 and bool(found == wanted[: len(found)])


_ENERGY: Final = ("energy", "runs", "--json")
_REPLAY: Final = ("replay", "t.jsonl", "-o", "out", "--json")

KINDS: Final = (
    Kind("trace", "t.jsonl", lambda f: load(f / "t.jsonl"), ("inspect", "t.jsonl", "--json"),
         same=_or_edited),
    Kind("trace, compressed", "t.jsonl.zst", lambda f: load(f / "t.jsonl.zst"), ("inspect", "t.jsonl.zst", "--json"),
         same=_or_edited),
    Kind("plan of a run folder", "runs/experiment.json", lambda f: load_runs(f / "runs"), _ENERGY),
    Kind("trace of a run folder", "runs/traces/*", lambda f: load_runs(f / "runs"), _ENERGY),
    Kind("run", "runs/runs/*/run.json", lambda f: load_runs(f / "runs"), _ENERGY),
    Kind("steps", "runs/runs/*/steps.jsonl.zst", lambda f: load_runs(f / "runs"), _ENERGY),
    Kind("readings", "runs/runs/*/readings.jsonl.zst", lambda f: load_runs(f / "runs"), _ENERGY),
    Kind("runs left out", "runs/refused.json", lambda f: load_refused(f / "runs"),
         ("report", "runs", "-o", "r.html", "--force")),
    Kind("samples", "g.samples", _samples, (), same=_begun),
    Kind("journal", "state/knobs/GPU-0.json", lambda f: read_journal(f / "state/knobs", GPU), ()),
    Kind("profile", "p.json", lambda f: load_profile(str(f / "p.json")), (*_REPLAY, "--profile", "p.json"), False),
    Kind("experiment file", "e.toml", lambda f: read_experiment_file(f / "e.toml"),
         ("run", "e.toml", "-o", "out", "--json"), False),
    Kind("Mooncake trace", "m.jsonl", lambda f: list(workflows(f / "m.jsonl")),
         ("import", "mooncake", "m.jsonl", "-o", "out.jsonl"), False),
)  # fmt: skip


def lay_out(folder: Path) -> None:
    """Writes one of each kind into ``folder``."""
    trace = random_trace(3, workflows=2, vertices=5)
    save(trace, folder / "t.jsonl")
    save(trace, folder / "t.jsonl.zst")
    rejoule.replay_traces({"t": trace}, folder / "runs", progress=False)
    run = load_runs(folder / "runs").runs[0]
    # A simulated run has no sensors; as a file, these readings are as good as any.
    readings = tuple(
        Reading(float(i), i + 1.0, 300.0 + i, 1755.0, 3201.0, 40.0 + i, gpus_j=(300.0 + i,)) for i in range(9)
    )
    shutil.rmtree(folder / "runs" / "runs" / run.id)
    save_run(folder / "runs", replace(run, readings=readings))
    save_refused(folder / "runs", [Refused("t-0", run.configuration, "the cap is below the least")])
    shutil.copy(FOLDER / "h200-llama-3.1-8b.json", folder / "p.json")
    (folder / "e.toml").write_bytes(TOML)
    (folder / "m.jsonl").write_bytes(MOONCAKE)
    reads = [
        lost_record(0, host_ns=i * 10**8, epoch_us=i, end_ns=i * 10**8 + 5, late_ns=0, cpu_ns=i) for i in range(40)
    ]
    (folder / "g.samples").write_bytes(
        header([(GPU, "H200", 0.1)], "580", 10**8, 1, 5, 6) + Chain().add(b"".join(reads))
    )
    (folder / "state/knobs").mkdir(parents=True)
    write_journal(folder / "state/knobs", Found(GPU, limit_w=600.0))
