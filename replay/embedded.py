"""The embedded engine in a process of its own, for as long as somebody needs it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import orjson

from rejoule.replay.engines.http import api_url
from rejoule.traces import RejouleError


@contextmanager
def open_engine(engine: str, options: Mapping[str, Any]) -> Iterator[str]:
    """The root URL of an OpenAI-compatible API: of a server already running, or of the embedded engine.

    ``options`` are those of ``rejoule serve`` (``profile``, ``max_num_seqs``, ``seed`` …); ``None`` leaves a default.
    """
    if engine != "sim":
        yield api_url(engine)
        return
    given = {k: v for k, v in options.items() if v is not None}
    words = [word for k, v in given.items() for word in (f"--{k.replace('_', '-')}", str(v))]
    command = [sys.executable, "-m", "rejoule.replay", "serve", "--port", "0", "--any-model", "--json", *words]
    # The server ends when its standard input closes, so it cannot outlive this process, however that ends.
    with subprocess.Popen(
        [*command, "--until-stdin-closes"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as server:
        assert server.stdin is not None and server.stdout is not None and server.stderr is not None
        try:
            line = server.stdout.readline()
            if not line:
                reason = server.stderr.read().decode().strip().splitlines() or ["it said nothing"]
                raise RejouleError(
                    f"the embedded engine did not start: {reason[0].removeprefix('error: ')}",
                    "see: rejoule serve --help",
                )
            yield str(orjson.loads(line)["url"])
        finally:
            server.stdin.close()
            try:
                server.wait(timeout=5)
            except subprocess.TimeoutExpired:
                server.kill()
