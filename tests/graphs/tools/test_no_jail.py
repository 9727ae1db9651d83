"""Where no jail can be had, nothing runs unless that is asked for by name, and it is said."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.graphs.tools.conftest import WORKER

from rejoule.traces.store import load

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.graphs.tools.conftest import Worker


@pytest.mark.parametrize("kind", ["forbidden", "container"])
def test_nothing_runs_without_the_jail_it_should_have(
    worker: Callable[[str], Worker], outside: dict[str, object], kind: str
) -> None:
    """The refusal is one line, with the kernel's reason and what to do; asked for by name, the code runs."""
    code = f"open({outside['folder']!r} + '/ran', 'w').close(); print('ran')"
    refused = worker(kind).run(code)
    assert "cannot be jailed here: namespaces refused" in refused["error"]
    assert "sandbox=off" in refused["error"] and "\n" not in refused["error"]
    ran = worker(kind).run(code, jailed=False)
    assert (ran["output"], ran["jailed"], ran["passed"]) == ("ran\n", False, True)


@pytest.mark.parametrize("kind", ["forbidden", "container"])
def test_limits_hold_without_a_jail(worker: Callable[[str], Worker], kind: str) -> None:
    """Of time and of memory together, and what left the session ends too."""
    code = "import os, time\nif os.fork() == 0:\n    os.setsid()\ntime.sleep(60)"
    assert worker(kind).run(code, jailed=False, wall_s=0.5)["reason"] == "time limit"
    grow = "import os, time\nfor _ in range(4):\n    if os.fork() == 0:\n        x = b'y' * (60 << 20)\ntime.sleep(9)"
    assert worker(kind).run(grow, jailed=False, memory_bytes=150 << 20)["reason"] == "memory limit"


def forbidden(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line as a user who may make no namespaces runs it."""
    command = "from rejoule.replay.cli.main import main; main()"
    arguments = ["-c", command, *words]
    return subprocess.run(
        [sys.executable, str(WORKER), "forbidden", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )


SMALL = ("--set", "engineers=1", "--set", "rounds=1", "--set", "code_tokens=20", "--set", "requirements_tokens=20")


def test_record_refuses_and_writes_nothing(tmp_path: Path) -> None:
    done = forbidden(tmp_path, "record", "agentic", "-o", "t.jsonl")
    assert (done.returncode, list(tmp_path.iterdir())) == (2, [])
    assert (
        done.stderr.startswith("error: code that a model wrote cannot be jailed here") and done.stderr.count("\n") == 1
    )


@pytest.mark.parametrize("asked", ["off", "if-possible"])
def test_record_says_that_it_runs_without(tmp_path: Path, asked: str) -> None:
    """As a warning, in JSON, and in the trace, which holds what was done, not what was asked."""
    done = forbidden(tmp_path, "record", "agentic", "-o", "t.jsonl", "--json", "--set", f"sandbox={asked}", *SMALL)
    assert "runs as you" in done.stderr and "runs as you" in json.loads(done.stdout)["remarks"][0]
    assert load(tmp_path / "t.jsonl").header.settings["sandbox"] == "off"


def test_the_doctor_says_so(tmp_path: Path) -> None:
    done = forbidden(tmp_path, "doctor", "--json")
    (found,) = [each for each in json.loads(done.stdout)["findings"] if each["topic"] == "jail for code"]
    assert found["ok"] is False and found["facts"]["parts"]["namespaces"] is False and found["remedy"]
