"""``rejoule serve``: the embedded engine's server as a process of its own."""

from __future__ import annotations

import os
import signal
import sys
from threading import Thread

import click
import orjson

from rejoule.replay.cli.options import FiniteRange
from rejoule.traces import RejouleError
from rejoule.traces.run import Configuration

DEFAULT_PORT = 8000


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True, help="0 takes a free one."
)
@click.option("--profile", help="Profile of the simulated engine: a name or a file.")
@click.option("--model", help="Name under which the model is served; the profile's, if not given.")
@click.option("--any-model", is_flag=True, help="Answer whatever model a request names.")
@click.option("--max-num-seqs", type=click.IntRange(1), help="Most requests in a batch.")
@click.option("--power-cap", type=FiniteRange(1), help="GPU power cap in watts.")
@click.option("--sm-clock", type=FiniteRange(1), help="SM clock lock in MHz.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True)
@click.option("--until-stdin-closes", is_flag=True, hidden=True)
@click.option("--json", "as_json", is_flag=True, help="Print the server's URL as a JSON object once it listens.")
def serve(
    host: str,
    port: int,
    profile: str | None,
    model: str | None,
    any_model: bool,
    max_num_seqs: int | None,
    power_cap: float | None,
    sm_clock: float | None,
    seed: int,
    until_stdin_closes: bool,
    as_json: bool,
) -> None:
    """Serve the embedded engine as an OpenAI-compatible server, in wall time."""
    from rejoule.replay.embedded import server
    from rejoule.replay.engines.sim import engine_config

    configuration = Configuration(
        profile=profile, max_num_seqs=max_num_seqs, power_cap_w=power_cap, sm_clock_mhz=sm_clock, seed=seed
    )
    if not host.strip():
        raise RejouleError("--host is empty", "give 127.0.0.1 for this machine alone, or 0.0.0.0 for all addresses")
    config = engine_config(configuration)
    name = model or config.profile.name

    def started(url: str) -> None:
        if as_json:
            click.echo(orjson.dumps({"url": f"{url}/v1", "model": name}))
        else:
            click.echo(f"{name} is served at {url}/v1; its joules are modelled, at {url}/energy. Stop it with Ctrl-C.")
        if until_stdin_closes:
            Thread(target=_follow_stdin, daemon=True).start()

    server.serve(host, port, config, name, on_start=started, any_model=any_model)


def _follow_stdin() -> None:
    # The pipe closes however its owner ends, kill -9 included.
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGINT)
