"""Managed servers of a real vLLM on the CPU, with a tiny model and dummy weights."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from rejoule.replay.vllm.server import ManagedServer, ServerOptions, fetch_counters, reset_prefix_cache
from rejoule.replay.vllm.server.supervisor import descendants
from rejoule.replay.vllm.server.testing import left_after
from rejoule.traces import RejouleError

pytestmark = pytest.mark.vllm

ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
ARGUMENTS: dict[str, Any] = {
    "load_format": "dummy",
    "dtype": "bfloat16",
    "enforce_eager": True,
    "block_size": 32,
    "max_model_len": 2048,
}


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> ServerOptions:
    """Options of a server that starts."""
    python = os.environ.get("VLLM_PYTHON")
    if not python:
        pytest.skip("VLLM_PYTHON names no Python that has vLLM; run: make test-vllm")
    python = str(Path(python).absolute())
    model = tmp_path_factory.mktemp("model") / "tiny"
    subprocess.run([python, Path(__file__).parents[3] / "vllm" / "tiny_model.py", model], check=True)
    return ServerOptions(
        str(model), python=python, max_num_seqs=4, num_gpu_blocks=200, arguments=ARGUMENTS, env=ENVIRONMENT
    )


def runs(pid: int) -> bool:
    """Whether a process runs: one that merely nobody has waited for has no command any more."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


async def test_whole_life(options: ServerOptions, tmp_path: Path) -> None:
    """Start, configuration in force, a proven cold cache, a refused one, and an end that leaves nothing."""
    phases: list[str] = []
    others = set(descendants(os.getpid()))
    async with ManagedServer(options, tmp_path / "log", on_progress=lambda p: phases.append(p.phase)) as server:
        family = set(descendants(os.getpid())) - others
        described = await server.describe()
        assert (described["max_num_seqs"], described["num_gpu_blocks"], described["block_size"]) == (4, 200, 32)
        assert re.match(r"0\.\d+", described["version"])
        assert described["configuration"]["cache_config"]["num_gpu_blocks_override"] == 200
        for _ in range(2):
            found = await reset_prefix_cache(server.http, server.url, described)
            assert found.cold, found.proof
            assert found.success is not False
        body = {"model": described["model"], "prompt": [9] * 40, "max_tokens": 1500, "ignore_eos": True, "stream": True}
        async with server.http.post(f"{server.url}/v1/completions", json=body) as busy:
            await busy.content.readline()
            refused = await reset_prefix_cache(server.http, server.url, described, idle_timeout_s=0.1)
            assert not refused.cold
            busy.close()
        assert (await reset_prefix_cache(server.http, server.url, described)).cold
        assert (await fetch_counters(server.http, server.url)).preemptions == 0
    assert {"starting the engine", "loading weights"} & set(phases)
    assert len(family) >= 4  # supervisor, server, engine, worker
    assert not any(map(runs, family))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "nobody/nothing"}, "LocalEntryNotFoundError: Cannot find an appropriate cached snapshot"),
        ({"arguments": {**ARGUMENTS, "no_such_option": 3}}, "unrecognized arguments: --no-such-option"),
        ({"arguments": {**ARGUMENTS, "max_model_len": 100_000}}, r"max_model_len \(100000\) is greater than"),
        ({"num_gpu_blocks": 3}, "KV cache"),
        ({"num_gpu_blocks": None, "env": {**ENVIRONMENT, "VLLM_CPU_KVCACHE_SPACE": "90000"}}, "memory|KV cache"),
    ],
    ids=["model", "option", "length", "blocks", "memory"],
)
async def test_start_failures(options: ServerOptions, tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    """Each way not to start ends in one line with vLLM's own reason."""
    with pytest.raises(RejouleError, match=reason) as caught:
        async with ManagedServer(replace(options, **changes), tmp_path / "log"):
            pass
    assert caught.value.what.startswith("vLLM did not start: ")
    assert "\n" not in str(caught.value)
    assert not left_after(tmp_path, 5)


async def test_death_of_the_engine(options: ServerOptions, tmp_path: Path) -> None:
    """An engine that is killed during a run ends the server, and that is noticed."""
    async with ManagedServer(options, tmp_path / "log") as server:
        engine = next(
            pid for pid in descendants(os.getpid()) if b"EngineCore" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
        os.kill(engine, signal.SIGKILL)
        error = await asyncio.wait_for(server.died(), 60)
        assert not server.alive()
        assert "unexpectedly" in error.what


OWNER = """
import asyncio, pathlib, sys
import msgspec
from rejoule.replay.vllm.server import ManagedServer, ServerOptions

async def main():
    async with ManagedServer(msgspec.json.decode(sys.argv[1], type=ServerOptions), pathlib.Path(sys.argv[2])):
        print("ready", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


def test_killed_owner(options: ServerOptions, tmp_path: Path) -> None:
    """kill -9 of whoever started the server leaves none of vLLM's processes."""
    arguments = [sys.executable, "-c", OWNER, orjson.dumps(options).decode(), str(tmp_path / "log")]
    path = str(Path(sys.modules["rejoule"].__path__[0]).parent)
    with subprocess.Popen(arguments, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"ready\n"
        family = descendants(owner.pid)
        assert len(family) >= 4
        owner.kill()
    assert not left_after(tmp_path, 30)
    assert not any(map(runs, family))
