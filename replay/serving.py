"""The embedded engine's server as a process of its own."""

from __future__ import annotations

import os
import signal
import sys
from threading import Thread

import click
import orjson

from rejoule.replay.engines.sim import engine_config
from rejoule.replay.sim.server import serve
from rejoule.traces.run import Configuration


def serve_until_stopped(
    configuration: Configuration,
    *,
    host: str,
    port: int,
    model: str | None,
    any_model: bool,
    until_stdin_closes: bool,
    as_json: bool,
) -> None:
    """Serves until interrupted, or until whoever started it is gone.

    Raises RejouleError for an unknown profile, a knob out of range, or a port that is taken.
    """
    config = engine_config(configuration)
    name = model or config.profile.name

    def started(url: str) -> None:
        if as_json:
            click.echo(orjson.dumps({"url": f"{url}/v1", "model": name}))
        else:
            click.echo(f"{name} is served at {url}/v1; its joules are modelled, at {url}/energy. Stop it with Ctrl-C.")
        if until_stdin_closes:
            Thread(target=_follow_stdin, daemon=True).start()

    serve(host, port, config, name, on_start=started, any_model=any_model)


def _follow_stdin() -> None:
    # The pipe closes however its owner ends, kill -9 included.
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGINT)
