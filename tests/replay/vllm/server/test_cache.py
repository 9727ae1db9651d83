"""Cold caches between trials, proven from the server's counters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rejoule.replay.vllm.server import ColdCache, ManagedServer, ServerOptions, fetch_counters, reset_prefix_cache
from rejoule.replay.vllm.server.testing import Behaviour

MakeOptions = Callable[..., ServerOptions]


async def reset(asked: ServerOptions, log: Path) -> ColdCache:
    async with ManagedServer(asked, log) as server:
        return await reset_prefix_cache(server.http, server.url, await server.describe())


@pytest.mark.parametrize(("behaviour", "success"), [("works", True), ("silent", None)])
async def test_cold(options: MakeOptions, tmp_path: Path, behaviour: str, success: bool | None) -> None:
    """A reset that works is proven by a probe that hit and then missed, also where the server says nothing."""
    found = await reset(options(Behaviour(reset=behaviour)), tmp_path / "vllm.log")
    assert found == ColdCache(True, "a probe that hit before the reset missed after it", success)


@pytest.mark.parametrize(("behaviour", "proof"), [("refused", "the server refused"), ("lies", "32 tokens of a probe")])
async def test_not_cold(
    options: MakeOptions, tmp_path: Path, behaviour: str, proof: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reset that is refused, or claimed and not done, is a result that says so."""
    monkeypatch.setattr("rejoule.replay.vllm.server.cache.RESET_TIMEOUT_S", 0.2)
    found = await reset(options(Behaviour(reset=behaviour)), tmp_path / "vllm.log")
    assert not found.cold
    assert found.proof.startswith(proof)
    assert found.success is (behaviour == "lies")


async def test_everything_is_forgotten(options: MakeOptions, tmp_path: Path) -> None:
    """After a proven reset a prompt of an earlier trial finds nothing in the cache."""
    async with ManagedServer(options(), tmp_path / "vllm.log") as server:
        body = {"model": "m", "prompt": list(range(100, 200)), "max_tokens": 1}
        for expected in (0, 96, 0):
            before = await fetch_counters(server.http, server.url)
            async with server.http.post(f"{server.url}/v1/completions", json=body) as response:
                assert response.status == 200
            after = await fetch_counters(server.http, server.url)
            assert after.since(before).prefix_cache_hits == expected
            if expected:
                assert (await reset_prefix_cache(server.http, server.url, await server.describe())).cold


async def test_busy_server(options: MakeOptions, tmp_path: Path) -> None:
    """A server that still works is waited for, and not called cold if it does not end."""
    async with ManagedServer(options(), tmp_path / "vllm.log") as server:
        body = {"model": "m", "prompt": [1, 2, 3], "max_tokens": 8000, "ignore_eos": True, "stream": True}
        described = await server.describe()
        async with server.http.post(f"{server.url}/v1/completions", json=body) as busy:
            await busy.content.readline()
            found = await reset_prefix_cache(server.http, server.url, described, idle_timeout_s=0.1)
            assert found == ColdCache(False, "the server is not idle: 1 requests run, 0 wait")
            busy.close()
        assert (await reset_prefix_cache(server.http, server.url, described)).cold


async def test_dead_server(options: MakeOptions, tmp_path: Path) -> None:
    """A server that does not answer is not cold; asking does not raise."""
    async with ManagedServer(options(Behaviour(dies_after_s=0.5)), tmp_path / "vllm.log") as server:
        described = await server.describe()
        await server.died()
        found = await reset_prefix_cache(server.http, server.url, described)
        assert not found.cold
        assert "could not be reset" in found.proof


async def test_no_prefix_cache(options: MakeOptions, tmp_path: Path) -> None:
    """Without prefix caching there is nothing to reset."""
    async with ManagedServer(options(), tmp_path / "vllm.log") as server:
        assert (await reset_prefix_cache(server.http, server.url, {"prefix_caching": False})).cold
