"""Keeps a measured run folder in benchmarks/h200: python -m benchmarks.gpu.keep RUNS NAME [--samples] [TRACE …].

Runs are kept (of all traces, or of those named), and on demand what the sampler wrote, compressed. The traces are not,
since uniform_trace.py makes them again, nor are logs and paths of the machine. Runs are judged by the present rules.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import orjson
from benchmarks.gpu.packed import pack
from benchmarks.gpu.tables import DATA

from rejoule.replay.protocol.rejection import judged
from rejoule.replay.sim.shipped import model_names
from rejoule.traces.run import Configuration, Run
from rejoule.traces.runs import create, load_runs, save_run

MODEL: Final = "llama-3.1-8b"
SMALL: Final = "smollm2-135m"
OF_THE_MACHINE: Final = ("command", "url", "id", "root", "models")


def keep(source: Path, target: Path, traces: Sequence[str] = (), samples: bool = False) -> None:
    folder = load_runs(source)
    shutil.rmtree(target, ignore_errors=True)
    kept = [run for run in folder.runs if not traces or run.trace in traces]
    ids = {run.id for run in kept}
    planned = tuple(replace(p, configuration=named(p.configuration)) for p in folder.experiment.runs if p.id in ids)
    for model in dict.fromkeys(str(run.configuration.options.get("model")) for run in kept):
        if (told := Path(model).name) not in model_names():
            print(f"the model is called {told}, and kept as {name_of(model)}", file=sys.stderr)
    create(target, replace(folder.experiment, traces={}, runs=planned), {})
    for run in kept:
        save_run(target, rejudged(run))
        file = target / "runs" / run.id / "run.json"
        file.write_bytes(orjson.dumps(orjson.loads(file.read_bytes())))
    for file in sorted((source / "samples").glob("*.samples")) if samples else ():
        pack(file, target)


def named(configuration: Configuration) -> Configuration:
    """Without paths of the machine: the model's name, and of ``weights`` what comes before its file."""
    options = configuration.options
    own = {"weights": options["weights"].partition(":")[0]} if "weights" in options else {}
    return replace(configuration, options={**options, "model": name_of(str(options.get("model"))), **own})


def name_of(model: str) -> str:
    """By its path: one of the profiles' names, and of others the one that it is taken for."""
    told = Path(model).name
    return told if told in model_names() else SMALL if "smol" in model else MODEL


def rejudged(run: Run) -> Run:
    kept = named(run.configuration)
    engine = {name: value for name, value in run.engine.items() if name not in OF_THE_MACHINE}
    run = replace(run, configuration=kept, engine=engine | {"model": kept.options["model"]})
    return run if run.conditions is None else judged(replace(run, conditions=replace(run.conditions, rejected=())))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    words = sys.argv[3:]
    keep(Path(sys.argv[1]), DATA / sys.argv[2], [w for w in words if w != "--samples"], "--samples" in words)
