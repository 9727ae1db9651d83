"""Bad input on the command line: one line, a remedy, an exit status, and nothing lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest

from rejoule.replay.cli.main import COMMANDS
from rejoule.traces.runs import finished, load_runs
from rejoule.traces.store import save
from rejoule.traces.testing import random_trace


def rejoule(*words: object, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rejoule.replay", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "t.jsonl"
    save(random_trace(3, workflows=5), path)
    return path


def refused(done: subprocess.CompletedProcess[str], what: str, remedy: str) -> None:
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    assert what in lines[0] and remedy in lines[0], lines[0]


@pytest.mark.parametrize(
    ("words", "what", "remedy"),
    [
        (["replay", "none.jsonl", "-o", "RUNS"], "none.jsonl does not exist", "rejoule record"),
        (["replay", "TRACE", "-o", "RUNS", "--engine", "http://127.0.0.1:9"], "cannot reach a server", "curl"),
        (["replay", "TRACE", "-o", "RUNS", "--engine", "nowhere"], "engine 'nowhere' is unknown", "URL"),
        (["replay", "TRACE", "-o", "RUNS", "--engine", "vllm"], "--engine vllm needs a model", "--option model="),
        (["replay", "TRACE", "-o", "RUNS", "--option", "x"], "--option 'x' is not KEY=VALUE", "tensor_parallel_size"),
        (
            ["replay", "TRACE", "-o", "RUNS", "--engine", "http://127.0.0.1:9", "--max-num-seqs", "4"],
            "--max-num-seqs cannot be set",
            "--engine sim",
        ),
        (["replay", "TRACE", "-o", "RUNS", "--max-num-seqs", "1,none,-3"], "not a list of positive integers", "--help"),
        (["replay", "TRACE", "-o", "RUNS", "--power-cap", "9000"], "9000 W is outside the range", "take "),
        (["replay", "TRACE", "-o", "RUNS", "--sm-clock", "9"], "clock of 9 MHz is outside the range", "take "),
        (["replay", "TRACE", "-o", "RUNS", "--profile", "abacus"], "no profile 'abacus'", "h200-llama-3.1-8b"),
        (["replay", "TRACE", "-o", "RUNS", "--arrivals", "sometimes"], "'sometimes' are unknown", "poisson:RATE"),
        (["replay", "TRACE", "-o", "RUNS", "--time-scale", "nan"], "time_scale = nan has no meaning", "0"),
        (["replay", "TRACE", "-o", "RUNS", "--seed", "99999999999999999999"], "--seed", "--help"),
        (["replay", "TRACE", "-o", "RUNS" + 300 * "x"], "cannot write", "choose a folder"),
        (["replay", "TRACE", "-o", "RUNS", "--frobnicate"], "--frobnicate", "rejoule replay --help"),
        (["replay", "TRACE", "-o", "TRACE/x"], "cannot write", "choose a folder"),
        (["replay", "TRACE", "TRACE", "-o", "RUNS"], "two traces are called t", "rename"),
        (["replay", "-o", "RUNS"], "Missing argument", "--help"),
        (["inspect", "none.jsonl"], "none.jsonl does not exist", "rejoule record"),
        (["report", "RUNS", "-o", "x.html"], "is not a run folder", "rejoule replay"),
        (["diff", "RUNS", "RUNS"], "is not a run folder", "rejoule replay"),
        (["record", "nothing", "-o", "x.jsonl"], "nothing", "sequential"),
        (["record", "none.py:graph", "-o", "x.jsonl"], "none.py", ""),
        (["record", "sequential", "-o", "no/x.jsonl"], "there is no folder", "mkdir"),
        (["record", "agentic", "-o", "x.jsonl", "--engine", "http://127.0.0.1:9"], "no server answers", "--engine sim"),
        (["run", "none.toml", "-o", "RUNS"], "cannot read none.toml", "experiment file"),
        (["serve", "--profile", "abacus"], "no profile 'abacus'", "h200-llama-3.1-8b"),
        (["juggle"], "No such command 'juggle'", "--help"),
    ],
)
def test_refused(
    trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], what: str, remedy: str
) -> None:
    """Bad input ends in one line with the remedy, and leaves nothing behind."""
    monkeypatch.chdir(tmp_path)
    places = {"TRACE": str(trace), "RUNS": str(tmp_path / "runs")}
    refused(
        rejoule(*[w.replace("TRACE", places["TRACE"]).replace("RUNS", places["RUNS"]) for w in words]), what, remedy
    )
    assert not finished(tmp_path / "runs")


def test_cut_trace(trace: Path, tmp_path: Path) -> None:
    """A cut trace is refused by line; what is complete of it replays with --salvage."""
    trace.write_bytes(trace.read_bytes()[:-200])
    refused(rejoule("replay", trace, "-o", tmp_path / "runs"), "t.jsonl", "--salvage")
    assert rejoule("replay", trace, "-o", tmp_path / "runs", "--salvage").returncode == 0
    assert len(load_runs(tmp_path / "runs").runs[0].workflows) == 4


def test_json(trace: Path, tmp_path: Path) -> None:
    """--json prints one object a run, with null for what was not measured."""
    done = rejoule("replay", trace, "-o", tmp_path / "runs", "--max-num-seqs", "1,8", "--json")
    objects = [orjson.loads(line) for line in done.stdout.splitlines()]
    assert [o["configuration"]["max_num_seqs"] for o in sorted(objects, key=lambda o: o["run"])] and len(objects) == 2
    for found in objects:
        assert found["energy_j"]["cpu"] is None and found["energy_j"]["gpu"] > 0
        assert found["energy_source"]["gpu"].startswith("model:")
        assert found["certificate"]["exact_calls"] == found["calls"]
        assert found["latency_s"]["workflow"]["p99"] >= found["latency_s"]["workflow"]["p50"] > 0


def test_figures_of_workflows(trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--json has them always, people with --figures, within 80 columns and with what stands against reading them."""
    words = ("replay", trace, "-o", tmp_path / "runs", "--max-num-seqs", "1,8", "--power-cap", "300", "--trials", "2")
    monkeypatch.setenv("COLUMNS", "80")
    plain, full = rejoule(*words).stdout, rejoule(*words, "--figures").stdout
    assert "slowed" not in plain and "slowed" in full and "/h user" in full
    assert all(len(line) <= 80 for line in full.splitlines() if str(tmp_path) not in line)
    assert "of 5 workflows, too few to tell" in " ".join(full.split())
    for found in (orjson.loads(line) for line in rejoule(*words, "--json").stdout.splitlines()):
        figures, latency = found["figures"], found["latency_s"]["workflow"]
        assert figures["workflow_j"] == pytest.approx(found["energy_j"]["gpu"] / 5)
        assert figures["workflows_per_gpu_h"] == pytest.approx(5 / found["makespan_s"] * 3600)
        assert 0 < figures["jain"] <= 1 <= figures["slowdown"]
        assert (latency["count"], latency["unresolved"]) == (5, ["p95", "p99"])


def test_experiment_file(trace: Path, tmp_path: Path) -> None:
    """An experiment that is written down makes the runs that it says, and once only."""
    file = tmp_path / "e.toml"
    file.write_text(
        'traces = ["t.jsonl"]\ntrials = 2\n[configuration]\narrivals = "burst"\n[sweep]\nmax_num_seqs = [1, 8]\n'
    )
    first = rejoule("run", file, "-o", tmp_path / "runs", "--json")
    again = rejoule("run", file, "-o", tmp_path / "runs", "--json")
    told, told_again = ([orjson.loads(line) for line in done.stdout.splitlines()] for done in (first, again))
    assert len(told) == 4
    assert sorted(told, key=lambda o: o["run"]) == sorted(told_again, key=lambda o: o["run"])
    assert {r.configuration.arrivals for r in load_runs(tmp_path / "runs").runs} == {"burst"}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("traces = 3", "traces"),
        ("trace = []", "trace"),
        ("traces = []\n[sweep]\ncolour = [1]", "no knob is called colour"),
        ("traces = []\n[configuration]\ncolour = 1", "no knob is called colour"),
        ("traces = [", "e.toml"),
        ("traces = []", "traces is an empty list"),
        ('traces = ["t"]\n[sweep]\nmax_num_seqs = []', "max_num_seqs is an empty list"),
        ('traces = ["t"]\n[sweep]\nseed = [1]\n[configuration]\nseed = 1', "both set and swept"),
        ('traces = ["t"]\n[configuration]\ntime_scale = nan', "time_scale = nan has no meaning"),
    ],
)
def test_bad_experiment_file(tmp_path: Path, text: str, what: str) -> None:
    """A wrong experiment file is refused by its key."""
    (tmp_path / "e.toml").write_text(text)
    refused(rejoule("run", tmp_path / "e.toml", "-o", tmp_path / "runs"), what, "; ")


def test_interrupt(tmp_path: Path) -> None:
    """Ctrl-C keeps the runs that finished, and the same command takes the experiment up."""
    trace, folder = tmp_path / "t.jsonl", tmp_path / "runs"
    save(random_trace(3, workflows=150), trace)
    words = ["replay", trace, "-o", folder, "--max-num-seqs", ",".join(str(n) for n in range(1, 41)), "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", "rejoule.replay", *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        while len(finished(folder)) < 3:
            time.sleep(0.01)
        os.kill(running.pid, signal.SIGINT)
        _, said = running.communicate(timeout=30)
    assert running.returncode == 130 and b"runs that had finished are kept" in said
    kept = len(finished(folder))
    assert 3 <= kept < 40
    assert len(rejoule(*words).stdout.splitlines()) == 40


def test_help_is_light() -> None:
    """Help costs none of the heavy imports."""
    code = (
        "import sys; sys.argv = ['rejoule', '--help']\n"
        "from rejoule.replay.cli.main import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"langgraph", "openai", "numpy", "networkx", "plotly", "pynvml", "aiohttp"} & set(done.stdout.split())


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(command: str) -> None:
    """Every command explains itself, without heavy imports."""
    done = rejoule(command, "--help")
    assert done.returncode == 0 and f"rejoule {command}" in done.stdout


@pytest.mark.parametrize("words", [["inspect", "t.jsonl"], ["doctor"]])
def test_a_terminal_without_unicode_is_enough(words: list[str], tmp_path: Path) -> None:
    """What an encoding lacks is replaced."""
    save(random_trace(3, workflows=1, vertices=3), tmp_path / "t.jsonl")
    plain = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "rejoule.replay", *words]
    done = subprocess.run(command, cwd=tmp_path, env=plain, capture_output=True)
    assert b"Traceback" not in done.stderr and done.stdout.isascii()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    """Output that cannot be written ends in a sentence, and the runs that were made stay."""
    save(random_trace(3, workflows=1, vertices=3), tmp_path / "t.jsonl")
    command = [sys.executable, "-m", "rejoule.replay", "replay", "t.jsonl", "-o", "runs", "--json"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr and b"the output cannot be written" in done.stderr
    assert list((tmp_path / "runs" / "runs").iterdir())


def test_what_is_to_be_typed_next_can_be_typed(trace: Path, tmp_path: Path) -> None:
    """A folder with a space in its name is quoted in the commands that a replay suggests."""
    folder = tmp_path / "my runs"
    done = rejoule("replay", trace, "-o", folder)
    assert f"rejoule energy '{folder}'" in done.stdout and f"rejoule report '{folder}' -o" in done.stdout
