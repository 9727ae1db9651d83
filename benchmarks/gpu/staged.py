"""Runs ``rejoule`` with two options that it does not have, set before each run: python -m benchmarks.gpu.staged ARGS.

``weights``  values that the server's weights are given (``weight_values.py``): the server needs
             ``worker_extension_cls = "weight_values.WeightValues"`` and this folder on its PYTHONPATH.
``company``  a process that uses the same GPU beside the run (``foreign_load.py``): none, context, steady or bursts.

Both are part of a run's configuration, so ``rejoule diff RUNS --a weights=zeros --b weights=dummy`` compares them. A
run's ``engine`` says what the weights were, and how many matrix products the company made from its start to its end.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from time import monotonic, monotonic_ns
from typing import Any, Final

import aiohttp

from rejoule.traces import run_options

OWN: Final = ("weights", "company")
# Before anyone else reads it: neither option needs a server of its own, nor reaches vLLM's command line.
setattr(run_options, "RUN_OPTIONS", (*run_options.RUN_OPTIONS, *OWN))  # noqa: B010, it is Final

from rejoule.replay.engines.open import Engines  # noqa: E402
from rejoule.traces import RejouleError, Trace  # noqa: E402
from rejoule.traces.run import Configuration  # noqa: E402

COMPANY: Final[Mapping[str, tuple[str, ...] | None]] = {
    "none": None,
    "context": ("--duty", "0"),
    "steady": ("--duty", "0.25"),
    "bursts": ("--duty", "0.25", "--on-s", "1", "--off-s", "1"),
}
PROMPT: Final = "The capital of France is"
RPC_S: Final = 120.0
SETTLE_S: Final = 2.0
"""After the weights were written, before the run: the GPU was busy with that."""


@dataclass(slots=True)
class Company:
    """The process that is there now."""

    kind: str = "none"
    process: subprocess.Popen[str] | None = None
    log: Path | None = None
    said: str = ""

    def be(self, kind: str) -> None:
        """Ends the one that is there and starts this one. Raises RejouleError if it does not get ready."""
        if kind not in COMPANY:
            raise RejouleError(f"no company {kind!r}", f"choose one of {', '.join(COMPANY)}")
        if kind == self.kind:
            return
        self.end()
        words = COMPANY[kind]
        if words is not None:
            self.log = Path(tempfile.mkstemp(suffix=".csv")[1])
            script = Path(__file__).with_name("foreign_load.py")
            python = os.environ.get("COMPANY_PYTHON", "python3")
            # In a session of its own, as any other user's process: not of ReJoule's family.
            self.process = subprocess.Popen(
                [python, str(script), str(self.log), *words], stdout=subprocess.PIPE, text=True, start_new_session=True
            )
            assert self.process.stdout is not None
            self.said = self.process.stdout.readline().strip()
            if not self.said.startswith("ready"):
                raise RejouleError(f"the company said {self.said!r}", "see what foreign_load.py says by itself")
        self.kind = kind

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.kind, self.process, self.log, self.said = "none", None, None, ""

    def products(self, begin_ns: int, end_ns: int) -> float | None:
        """How many it made between two times of the monotonic clock."""
        if self.log is None:
            return None
        rows = [line.split(",") for line in self.log.read_text().splitlines() if line.count(",") == 1]
        times, made = [int(r[0]) for r in rows], [int(r[1]) for r in rows]
        return between(times, made, end_ns) - between(times, made, begin_ns)


def between(times: list[int], values: list[int], at: int) -> float:
    """Linear between the rows beside ``at``; the outermost beyond them."""
    right = bisect_right(times, at)
    if right in (0, len(times)):
        return float(values[0 if right == 0 else -1]) if values else 0.0
    share = (at - times[right - 1]) / (times[right] - times[right - 1])
    return values[right - 1] + share * (values[right] - values[right - 1])


class Stage:
    """What is set before a run, and told after it."""

    def __init__(self) -> None:
        self.company = Company()
        self._weights: dict[str, Any] = {}
        self._said: str | None = None

    async def open(self, engines: Engines, configuration: Configuration, trace: Trace) -> Any:
        """The engine for a run, its weights set and its company there; told of in what it measured."""
        own = {name: configuration.options[name] for name in OWN if name in configuration.options}
        engine: Any = await _open(engines, configuration, trace)
        try:
            if "weights" in own:
                await self._weigh(engine.place.server.removesuffix("/v1"), str(own["weights"]))
            if "company" in own:
                await asyncio.to_thread(self.company.be, str(own["company"]))
        except BaseException:
            await engine.close()
            raise
        begun_ns = 0
        plain_start, plain_finish = engine.start, engine.finish

        async def start() -> None:
            nonlocal begun_ns
            await plain_start()
            begun_ns = monotonic_ns()

        async def finish() -> Any:
            end_ns = monotonic_ns()
            measured = await plain_finish()
            told = dict(measured.engine)
            if "weights" in own:
                told["weights"] = self._weights
            if "company" in own:
                made = self.company.products(begun_ns, end_ns)
                told["company"] = {"kind": self.company.kind, "products": made, "said": self.company.said}
            return replace(measured, engine=told)

        engine.start, engine.finish = start, finish
        return engine

    async def _weigh(self, url: str, values: str) -> None:
        begun_s = monotonic()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(RPC_S)) as http:
            told = await _post(http, f"{url}/collective_rpc", {"method": "set_weights", "args": [values]})
            self._weights = {**told["results"][0], "set_in_s": round(monotonic() - begun_s, 2)}
            if values == "loaded" and self._said is None:
                models = await (await http.get(f"{url}/v1/models")).json()
                ask = {"model": models["data"][0]["id"], "prompt": PROMPT, "max_tokens": 16, "temperature": 0}
                said = await _post(http, f"{url}/v1/completions", ask)
                self._said = PROMPT + said["choices"][0]["text"]
            if values == "loaded":
                self._weights["said"] = self._said
        await asyncio.sleep(SETTLE_S)


async def _post(http: aiohttp.ClientSession, url: str, body: Mapping[str, Any]) -> Any:
    async with http.post(url, json=body) as response:
        if response.status != 200:
            raise RejouleError(
                f"{url} answered HTTP {response.status}: {await response.text()}", "see the server's log"
            )
        return await response.json()


_open: Final = Engines.open


def main() -> None:
    stage = Stage()

    async def opened(self: Engines, configuration: Configuration, trace: Trace) -> Any:
        return await stage.open(self, configuration, trace)

    Engines.open = opened  # type: ignore[method-assign]
    try:
        import_module("rejoule.replay.__main__")
    finally:
        stage.company.end()


if __name__ == "__main__":
    sys.argv[0] = "rejoule"
    main()
