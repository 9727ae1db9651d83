"""An engine behind a URL, for as long as somebody needs it: a server that runs, the embedded one, or a vLLM."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from rejoule.replay.engines.http import api_url
from rejoule.traces import RejouleError
from rejoule.traces.run import Configuration


@contextmanager
def open_engine(engine: str, options: Mapping[str, Any], log_folder: Path) -> Iterator[str]:
    """The root URL of an OpenAI-compatible API.

    For ``sim``, ``options`` are those of ``rejoule serve`` (``profile``, ``max_num_seqs``, ``seed`` …); for ``vllm``,
    ``model`` and any of vLLM's. ``None`` leaves a default. ``log_folder`` is where a vLLM's log is kept.
    """
    given = {k: v for k, v in options.items() if v is not None}
    if engine == "sim":
        with _embedded(given) as url:
            yield url
    elif engine == "vllm":
        with _vllm(given, log_folder) as url:
            yield url
    else:
        yield api_url(engine)


@contextmanager
def _embedded(options: Mapping[str, Any]) -> Iterator[str]:
    words = [word for k, v in options.items() for word in (f"--{k.replace('_', '-')}", str(v))]
    command = [sys.executable, "-m", "rejoule.replay", "serve", "--port", "0", "--any-model", "--json", *words]
    # The server ends when its standard input closes, so it cannot outlive this process, however that ends.
    with subprocess.Popen(
        [*command, "--until-stdin-closes"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A Ctrl-C is for the recorder, which still has calls in flight.
        start_new_session=True,
    ) as server:
        assert server.stdin is not None and server.stdout is not None and server.stderr is not None
        try:
            line = server.stdout.readline()
            if not line:
                reason = server.stderr.read().decode().strip().splitlines() or ["it said nothing"]
                what, _, remedy = reason[0].removeprefix("error: ").rpartition("; ")
                raise RejouleError(f"the embedded engine did not start: {what or remedy}", remedy)
            yield str(orjson.loads(line)["url"])
        finally:
            server.stdin.close()
            try:
                server.wait(timeout=5)
            except subprocess.TimeoutExpired:
                server.kill()


@contextmanager
def _vllm(options: Mapping[str, Any], log_folder: Path) -> Iterator[str]:
    from rejoule.replay.engines.loop_thread import LoopThread
    from rejoule.replay.engines.vllm import check_vllm, recording_server

    options = {k: v for k, v in options.items() if k not in ("seed", "profile")}
    check_vllm(Configuration(engine="vllm", options=options))
    with LoopThread() as loop:
        server = loop.run(recording_server(options, log_folder))
        try:
            yield f"{server.url}/v1"
        finally:
            loop.run(server.stop())
