"""However whoever started a server ends, no process of the server is left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import pytest

from rejoule.replay.vllm.server import ServerOptions
from rejoule.replay.vllm.server.testing import Behaviour, install, left_after, processes_of

MakeOptions = Callable[..., ServerOptions]

OWNER = """
import asyncio, pathlib, sys
import msgspec
from rejoule.replay.vllm.server import ManagedServer, ServerOptions

options = msgspec.json.decode(sys.argv[1], type=ServerOptions)

async def main():
    print("begun", flush=True)
    async with ManagedServer(options, pathlib.Path(sys.argv[2])) as server:
        print("ready", flush=True)
        await asyncio.sleep(float(sys.argv[3]))
        print("stopping", flush=True)

asyncio.run(main())
"""


def owner(options: ServerOptions, log: Path, run_s: float) -> subprocess.Popen[bytes]:
    """A process that starts a server, uses it for ``run_s`` and stops it."""
    arguments = [sys.executable, "-c", OWNER, orjson.dumps(options).decode(), str(log), str(run_s)]
    process = subprocess.Popen(
        arguments, env={**os.environ, **options.env}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    return process


def test_killed_at_random_moments(tmp_path: Path) -> None:
    """kill -9 at 20 random moments of start, run and stop leaves no process, not even those that hid."""
    source = random.Random(4)
    moments_s = [source.uniform(0.0, 1.6) for _ in range(20)]

    def kill_after(number: int) -> bool:
        folder = tmp_path / f"kill{number}."
        env = {**install(folder), **Behaviour(starts_in_s=0.2, children=2).env()}
        (folder / "model").mkdir()
        process = owner(ServerOptions(str(folder / "model"), env=env, grace_s=0.5), folder / "log", run_s=0.2)
        time.sleep(moments_s[number])
        found = processes_of(folder)
        process.kill()
        process.communicate()
        assert left_after(folder, 15) == []
        return len(found) > 2

    with ThreadPoolExecutor(4) as threads:
        running = list(threads.map(kill_after, range(20)))
    assert sum(running) >= 5  # the kills met servers that ran


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals(options: MakeOptions, tmp_path: Path, number: signal.Signals) -> None:
    """A signal to the owner ends its server, whether the owner handles it or not."""
    process = owner(options(), tmp_path / "vllm.log", run_s=60)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode != 0
    assert left_after(tmp_path, 10) == []


def test_owner_that_ends_without_stopping(options: MakeOptions, tmp_path: Path) -> None:
    """An owner that exits on the spot takes its server along."""
    script = OWNER.replace("await asyncio.sleep(float(sys.argv[3]))", "__import__('os')._exit(0)")
    arguments = [sys.executable, "-c", script, orjson.dumps(options()).decode(), str(tmp_path / "vllm.log")]
    subprocess.run(arguments, env={**os.environ, **options().env}, check=True, capture_output=True)
    assert left_after(tmp_path, 10) == []
