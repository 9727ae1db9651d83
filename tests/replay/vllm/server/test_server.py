"""A managed server, from its start to its end, on a stand-in for vLLM."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rejoule.replay.vllm.server import (
    ManagedServer,
    Progress,
    ReusedServer,
    ServerOptions,
    find_vllm,
    with_blocks_pinned,
)
from rejoule.replay.vllm.server.testing import Behaviour, left_after, processes_of
from rejoule.traces import RejouleError

MakeOptions = Callable[..., ServerOptions]


def supervisor_of(folder: Path) -> int:
    return next(int(line.split()[0]) for line in processes_of(folder) if "supervisor.py" in line)


async def test_start_describe_stop(options: MakeOptions, tmp_path: Path) -> None:
    """A server tells its progress, then what it is; stopped, it leaves its log and no process."""
    told: list[Progress] = []
    asked = options(Behaviour(starts_in_s=0.6), max_num_seqs=4, num_gpu_blocks=300)
    async with ManagedServer(asked, tmp_path / "logs" / "vllm.log", on_progress=told.append) as server:
        assert server.alive()
        assert server.reason() is None
        described = await server.describe()
        assert len(processes_of(tmp_path)) == 4  # supervisor, server, worker, and the worker's child that ran away
    assert not server.alive()
    assert processes_of(tmp_path) == []
    assert server.returncode == 0
    assert "startup complete" in server.log.read_text()
    assert told[0].phase == "starting"
    assert {"starting the engine", "capturing graphs"} & {p.phase for p in told}
    assert described["version"] == "0.30.0"
    assert described["model"] == str(tmp_path / "model")
    assert (described["max_num_seqs"], described["batch_knob"]) == (4, "max_num_seqs")
    assert (described["num_gpu_blocks"], described["blocks_pinned"], described["block_size"]) == (300, True, 16)
    assert described["configuration"]["model_config"]["hf_token"] == "***"


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("option", "unrecognized arguments"),
        ("length", "User-specified max"),
        ("memory", "CUDA out of memory"),
    ],
)
async def test_start_failure(options: MakeOptions, tmp_path: Path, kind: str, reason: str) -> None:
    """A server that does not start says why in vLLM's words, in one line, and where its log is."""
    with pytest.raises(RejouleError, match=reason) as caught:
        async with ManagedServer(options(Behaviour(fails=kind)), tmp_path / "vllm.log"):
            pass
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "vllm.log") in caught.value.remedy
    assert processes_of(tmp_path) == []


async def test_missing_model(options: MakeOptions, tmp_path: Path) -> None:
    """A folder that is not there is said so before anything is started."""
    with pytest.raises(RejouleError, match="no-model does not exist"):
        await ManagedServer(options(model=f"{tmp_path}/no-model"), tmp_path / "vllm.log").start()
    assert not (tmp_path / "vllm.log").exists()


async def test_log_that_cannot_be_written(options: MakeOptions, tmp_path: Path) -> None:
    """Without a place for its log nothing is started."""
    (tmp_path / "file").touch()
    with pytest.raises(RejouleError, match="cannot write"):
        await ManagedServer(options(), tmp_path / "file" / "vllm.log").start()
    assert processes_of(tmp_path) == []


async def test_taken_port(options: MakeOptions, tmp_path: Path) -> None:
    """A port that somebody took first is given up for another one."""
    behaviour = Behaviour(port_taken=str(tmp_path / "taken"))
    async with ManagedServer(options(behaviour), tmp_path / "vllm.log") as server:
        assert server.alive()
    assert "Address already in use" in server.log.read_text()
    assert processes_of(tmp_path) == []


async def test_two_servers_at_once(options: MakeOptions, tmp_path: Path) -> None:
    """Servers that are started together get ports of their own."""
    first, second = (ManagedServer(options(arguments={"name": n}), tmp_path / f"{n}.log") for n in "ab")
    await asyncio.gather(first.start(), second.start())
    try:
        assert first.url != second.url
        assert (await first.describe())["command"][-1] == "a"
    finally:
        await asyncio.gather(first.stop(), second.stop())
    assert processes_of(tmp_path) == []


async def test_never_ready(options: MakeOptions, tmp_path: Path) -> None:
    """A server that never answers is given up in time, and ended."""
    with pytest.raises(RejouleError, match="did not answer within"):
        async with ManagedServer(options(Behaviour(hangs=True), ready_timeout_s=0.3), tmp_path / "vllm.log"):
            pass
    assert processes_of(tmp_path) == []


async def test_death_is_noticed(options: MakeOptions, tmp_path: Path) -> None:
    """A server that dies during a run is known to be dead, with the engine's own reason; its children end too."""
    async with ManagedServer(options(Behaviour(dies_after_s=1.0)), tmp_path / "vllm.log") as server:
        error = await asyncio.wait_for(server.died(), 10)
        assert not server.alive()
        assert server.returncode == 1
        assert "CUDA error: an illegal memory access was encountered" in error.what
    assert processes_of(tmp_path) == []


async def test_killed_server(options: MakeOptions, tmp_path: Path) -> None:
    """A server that the kernel killed is said to be, and its workers end without it."""
    async with ManagedServer(options(), tmp_path / "vllm.log") as server:
        pid = next(int(p.split()[0]) for p in processes_of(tmp_path) if "--port" in p)
        os.kill(pid, signal.SIGKILL)
        error = await asyncio.wait_for(server.died(), 10)
        assert "killed by SIGKILL" in error.what
        assert left_after(tmp_path, 10) == []


async def test_ignored_sigterm(options: MakeOptions, tmp_path: Path) -> None:
    """A server that ignores SIGTERM is killed once its time is over."""
    asked = options(Behaviour(ignores_sigterm=True, children=2), grace_s=0.3)
    async with ManagedServer(asked, tmp_path / "vllm.log") as server:
        pass
    assert server.returncode == -signal.SIGKILL
    assert processes_of(tmp_path) == []


async def test_stopped_server_is_not_dead(options: MakeOptions, tmp_path: Path) -> None:
    """A frozen server is ended like any other."""
    async with ManagedServer(options(grace_s=0.3), tmp_path / "vllm.log"):
        pid = next(int(p.split()[0]) for p in processes_of(tmp_path) if "--port" in p)
        os.kill(pid, signal.SIGSTOP)
    assert processes_of(tmp_path) == []


async def test_cancelled_start_and_run(options: MakeOptions, tmp_path: Path) -> None:
    """Cancelling a start or a run ends the server before the cancellation goes on."""

    async def run(behaviour: Behaviour) -> None:
        async with ManagedServer(options(behaviour), tmp_path / "vllm.log"):
            await asyncio.sleep(60)

    for behaviour in (Behaviour(hangs=True), Behaviour()):
        task = asyncio.create_task(run(behaviour))
        while len(processes_of(tmp_path)) < 2 and not task.done():
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert processes_of(tmp_path) == []


async def test_killed_supervisor(options: MakeOptions, tmp_path: Path) -> None:
    """Where the supervisor itself is killed, the server goes with it, and stop clears the rest of its group."""
    async with ManagedServer(options(), tmp_path / "vllm.log") as server:
        group = [line for line in processes_of(tmp_path) if "supervisor.py" not in line and "setsid" not in line]
        os.kill(supervisor_of(tmp_path), signal.SIGKILL)
        await asyncio.wait_for(server.died(), 10)
        assert not server.alive()
    left = processes_of(tmp_path)
    assert not set(group) & set(left)
    for line in left:  # what left the group and its environment is beyond reach once the supervisor is gone
        os.kill(int(line.split()[0]), signal.SIGKILL)


async def test_one_server(options: MakeOptions, tmp_path: Path) -> None:
    """Trials of one engine configuration share a server; another configuration, or a death, starts a new one."""
    async with ReusedServer(tmp_path / "logs") as servers:
        first = await servers.get(options(max_num_seqs=1))
        assert await servers.get(options(max_num_seqs=1, ready_timeout_s=9.0)) is first
        second = await servers.get(options(max_num_seqs=2))
        assert second is not first
        assert not first.alive()
        pid = next(int(p.split()[0]) for p in processes_of(tmp_path) if "--port" in p)
        os.kill(pid, signal.SIGKILL)
        await second.died()
        assert await servers.get(options(max_num_seqs=2)) is not second
    assert processes_of(tmp_path) == []
    assert len(list((tmp_path / "logs").iterdir())) == 2


async def test_blocks_are_pinned_to_what_fits(options: MakeOptions, tmp_path: Path) -> None:
    """Without a number of KV blocks, a server of the largest batch tells how many fit at every batch size."""
    async with ReusedServer(tmp_path / "logs") as servers:
        pinned = await with_blocks_pinned(options(max_num_seqs=1, largest_num_seqs=64), servers)
        assert (pinned.num_gpu_blocks, pinned.max_num_seqs) == (4096, 1)
        assert await with_blocks_pinned(pinned, servers) is pinned


def test_interpreter_is_found(options: MakeOptions) -> None:
    """The version of vLLM is known without importing it."""
    found = find_vllm(options())
    assert (found.python, found.version) == (sys.executable, "0.30.0")


def test_no_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without vLLM the error names both remedies; an interpreter that is none is named."""
    monkeypatch.delenv("REJOULE_VLLM_PYTHON", raising=False)
    with pytest.raises(RejouleError, match="has no vLLM") as caught:
        find_vllm(ServerOptions("m"))
    assert "pip install 'rejoule[vllm]'" in caught.value.remedy
    assert "REJOULE_VLLM_PYTHON" in caught.value.remedy
    monkeypatch.setenv("REJOULE_VLLM_PYTHON", str(tmp_path / "python"))
    with pytest.raises(RejouleError, match="cannot run the interpreter"):
        find_vllm(ServerOptions("m"))
    with pytest.raises(RejouleError, match="does not answer as a Python"):
        find_vllm(ServerOptions("m", python="/bin/true"))
