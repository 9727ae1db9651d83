"""Whole experiments on servers of ReJoule's own: interrupted at any moment, and answered wrongly."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import orjson
import pytest

from rejoule.replay.vllm.server.testing import Behaviour, install, left_after, processes_of
from rejoule.traces.run import Certificate, Run
from rejoule.traces.runs import finished, load_runs
from rejoule.traces.store import save
from rejoule.traces.testing import made_call, made_trace, made_workflow, random_trace

KILLS = 20
LANES = 2
MOMENTS = (0.03, 0.9)
"""Shares of the time that the undisturbed experiment takes."""
WRONG = "w0000/c1"


@dataclass(frozen=True)
class Place:
    """A folder whose name is among the arguments of every process that an experiment in it starts."""

    folder: Path
    trace: Path

    def environment(self, behaviour: Behaviour) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if k != "REJOULE_VLLM_PYTHON"}
        return {**inherited, **install(self.folder / "site"), **behaviour.env()}

    def command(self, runs: Path, *words: object) -> list[str]:
        model = self.folder / "model"
        model.mkdir(parents=True, exist_ok=True)
        fixed = ["replay", self.trace, "-o", runs, "--engine", "vllm", "--option", f"model={model}"]
        fixed += ["--option", "warm_up=false"]
        return [sys.executable, "-m", "rejoule.replay", *map(str, [*fixed, *words])]


def certificates(runs: Path) -> dict[str, Certificate]:
    return {run.id: run.certificate for run in load_runs(runs).runs}


def stored(runs: Path) -> dict[str, bytes]:
    """The bytes of every finished run."""
    return {name: (runs / "runs" / name / "run.json").read_bytes() for name in finished(runs)}


def test_killed_at_random_moments(tmp_path: Path) -> None:
    """After kill -9 at 20 random moments the results are those of an undisturbed experiment, each once and for good."""
    save(random_trace(5, workflows=2, vertices=3), tmp_path / "t.jsonl")

    def killed(lane: int) -> Counter[str]:
        """Experiments that are killed and taken up until they end, one after the other."""
        here = Place(tmp_path / f"lane{lane}.", tmp_path / "t.jsonl")
        environment = here.environment(Behaviour())

        def attempt(runs: Path, moment_s: float | None, met: Counter[str]) -> bool:
            """The command once, killed after ``moment_s``; whether it came to its end."""
            command = here.command(runs, "--max-num-seqs", "1,2", "--trials", 2, "--json")
            with subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            ) as process:
                try:
                    said, _ = process.communicate(timeout=moment_s or 60)
                except subprocess.TimeoutExpired:
                    met["server"] += len(processes_of(here.folder)) > 1
                    process.kill()
                    said, _ = process.communicate()
                    met["killed"] += 1
            assert process.returncode in (0, -signal.SIGKILL)
            assert left_after(here.folder, 15) == []
            told = Counter(orjson.loads(line)["run"] for line in said.splitlines(keepends=True) if line.endswith(b"\n"))
            assert all(times == 1 for times in told.values())
            assert told.keys() <= finished(runs)
            return process.returncode == 0

        began_s = time.monotonic()
        assert attempt(here.folder / "undisturbed", None, Counter())
        whole_s = time.monotonic() - began_s
        wanted = certificates(here.folder / "undisturbed")
        assert len(wanted) == 4
        assert not any(certificate.violations for certificate in wanted.values())
        source, met = random.Random(lane), Counter[str]()
        for number in range(KILLS):
            runs, kept, ended = here.folder / f"runs{number}", dict[str, bytes](), False
            while not ended:
                moment_s = whole_s * source.uniform(*MOMENTS) if met["killed"] < KILLS // LANES else None
                ended = attempt(runs, moment_s, met)
                held = stored(runs)
                assert kept.items() <= held.items()  # a finished run stays as it is
                met["partly"] += not ended and 0 < len(held) < len(wanted)
                kept = held
            assert certificates(runs) == wanted
            assert kept.keys() == wanted.keys()
            if moment_s is None:
                break
        return met

    with ThreadPoolExecutor(LANES) as lanes:
        met = sum(lanes.map(killed, range(LANES)), Counter[str]())
    assert met["killed"] == KILLS
    assert met["server"] >= KILLS // 4  # kills met servers that ran
    assert met["partly"] >= 1  # and experiments that were under way


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two calls, the second after the first."""
    path = tmp_path_factory.mktemp("trace") / "t.jsonl"
    calls = [made_call("w0000", "c0", 0, 10, prompt_tokens=40), made_call("w0000", "c1", 11, 20, prompt_tokens=80)]
    save(made_trace([made_workflow(calls, {"barrier": [("c0", "c1")]})]), path)
    return path


@dataclass(frozen=True)
class Replayed:
    """One run, and what the command said of it."""

    run: Run
    runs: Path
    done: subprocess.CompletedProcess[str]


def replayed(folder: Path, trace: Path, behaviour: Behaviour) -> Replayed:
    """One run on a server that behaves so."""
    here, runs = Place(folder, trace), folder / "runs"
    done = subprocess.run(
        here.command(runs, "--max-num-seqs", 2),
        env=here.environment(behaviour) | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    assert left_after(here.folder, 15) == []
    (run,) = load_runs(runs).runs
    return Replayed(run, runs, done)


@pytest.fixture(scope="module")
def on(trace: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Behaviour], Replayed]:
    """The run on a server that behaves so, made once."""
    return cache(lambda behaviour: replayed(tmp_path_factory.mktemp("on") / "x.", trace, behaviour))


On = Callable[[Behaviour], Replayed]
RIGHT = Behaviour()
OTHER_TOKEN, OTHER_PROMPT, CUT = (Behaviour(wrong_call=WRONG, wrong=way) for way in ("token", "prompt", "cut"))
REFUSED, LIES = (Behaviour(reset=way) for way in ("refused", "lies"))
TOLD = {
    "token": (OTHER_TOKEN, WRONG),
    "prompt": (OTHER_PROMPT, WRONG),
    "cut": (CUT, WRONG),
    "refused": (REFUSED, "the prefix cache was not cold: the server refused to reset"),
    "lies": (LIES, "the prefix cache was not cold: 32 tokens of a probe were still cached"),
}
each_way = pytest.mark.parametrize(("behaviour", "named"), TOLD.values(), ids=TOLD.keys())


def test_right_answers(on: On) -> None:
    """A server that does its work leaves a certificate without a word against it, and nothing to warn of."""
    right = on(RIGHT)
    certificate = right.run.certificate
    assert right.done.returncode == 0, right.done.stderr
    assert (certificate.tier, certificate.exact_calls, certificate.violations) == ("tokens", 2, ())
    assert right.run.engine["cold_cache"] is True
    assert "not cold" not in right.done.stderr and WRONG not in right.done.stderr


@pytest.mark.parametrize("behaviour", [OTHER_TOKEN, OTHER_PROMPT, CUT], ids=["token", "prompt", "cut"])
def test_wrong_answers(on: On, behaviour: Behaviour) -> None:
    """A call whose output or prompt was another, or that was cut, is named by its run's certificate and not counted."""
    run = on(behaviour).run
    assert run.certificate.exact_calls == 1
    (violation,) = run.certificate.violations
    assert violation.startswith(f"{WRONG} ")
    assert {call.id: call.exact for call in run.calls} == {"w0000/c0": True, WRONG: False}


@pytest.mark.parametrize("behaviour", [REFUSED, LIES], ids=["refused", "lies"])
def test_warm_cache(on: On, behaviour: Behaviour) -> None:
    """A run whose cache was not proven cold says so in its certificate, with what stands against it."""
    run = on(behaviour).run
    assert run.certificate.exact_calls == 2  # the work itself was right
    (violation,) = run.certificate.violations
    assert violation == f"the prefix cache was not cold: {run.engine['cold_proof']}"
    assert run.engine["cold_cache"] is False


@each_way
def test_violations_are_told(on: On, behaviour: Behaviour, named: str) -> None:
    """Whoever replays is told of the first thing that was wrong."""
    assert named in " ".join(on(behaviour).done.stderr.split())


@each_way
def test_violations_are_not_compared(on: On, behaviour: Behaviour, named: str) -> None:
    """A comparison of a run that was wrong with one that was right is refused, whichever side it is on."""
    for sides in ((RIGHT, behaviour), (behaviour, RIGHT)):
        command = [sys.executable, "-m", "rejoule.replay", "diff", *(str(on(side).runs) for side in sides)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | {"COLUMNS": "200"})
        assert "Traceback" not in done.stderr
        assert done.returncode != 0
        assert "--allow-different-work" in done.stderr
