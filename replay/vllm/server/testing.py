"""A stand-in for vLLM: starts, fails and dies as vLLM does, in a tenth of a second, and answers by the embedded engine.

``install(folder)`` writes a package ``vllm`` whose server is this module, for ``PYTHONPATH``; ``Behaviour`` says how
the server misbehaves. Requests, the prefix cache and the counters are those of the embedded engine, in wall time. Where
``REJOULE_FAKE_NVML`` names stand-in GPUs, the first of them draws what the engine draws.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import orjson

from rejoule.replay.energy.variables import FAKE

if TYPE_CHECKING:
    from aiohttp import web
    from aiohttp.typedefs import Handler, Middleware

    from rejoule.replay.embedded.live import Ticket
    from rejoule.replay.embedded.protocol import Call
    from rejoule.replay.embedded.replies import Reply
    from rejoule.replay.embedded.server import Server
    from rejoule.replay.sim.config import EngineConfig

VARIABLE = "REJOULE_FAKE_VLLM"
PROFILE = "h200-llama-3.1-8b"
NUM_GPU_BLOCKS = 4096

FAILURES = {
    "option": "api_server.py: error: unrecognized arguments: --no-such-option\n",
    "length": (
        "(APIServer pid=7) Traceback (most recent call last):\n"
        '(APIServer pid=7)   File "/vllm/engine/arg_utils.py", line 1820, in create_model_config\n'
        "(APIServer pid=7)     return ModelConfig(\n"
        "(APIServer pid=7) pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n"
        "(APIServer pid=7)   Value error, User-specified max_model_len (100000) is greater than the derived "
        "max_model_len (max_position_embeddings=8192.0). [type=value_error, input_value=ArgsKwargs((), {}), "
        "input_type=ArgsKwargs]\n"
        "(APIServer pid=7)     For further information visit https://errors.pydantic.dev/2.14/v/value_error\n"
    ),
    "memory": (
        "(Worker_TP0 pid=9) ERROR 11-22 13:48:03 [multiproc_executor.py:900] WorkerProc failed to start.\n"
        "(Worker_TP0 pid=9) ERROR 11-22 13:48:03 [multiproc_executor.py:900] Traceback (most recent call last):\n"
        "(Worker_TP0 pid=9) ERROR 11-22 13:48:03 [multiproc_executor.py:900] torch.OutOfMemoryError: CUDA out of "
        "memory. Tried to allocate 224.00 MiB. GPU 0 has a total capacity of 79.10 GiB.\n"
        "(EngineCore pid=8) ERROR 11-22 13:48:04 [core.py:900] Traceback (most recent call last):\n"
        "(EngineCore pid=8) ERROR 11-22 13:48:04 [core.py:900] Exception: WorkerProc initialization failed due to an "
        "exception in a background process. See stack trace for root cause.\n"
        "(APIServer pid=7) Traceback (most recent call last):\n"
        "(APIServer pid=7) RuntimeError: Engine core initialization failed. See root cause above. Failed core "
        "proc(s): {}\n"
    ),
}
PORT_TAKEN = "(APIServer pid=7) OSError: [Errno 98] Address already in use\n"
STARTING = (
    "(APIServer pid=7) INFO 11-22 13:47:19 [model.py:600] Resolved architecture: LlamaForCausalLM",
    "(EngineCore pid=8) INFO 11-22 13:47:47 [core.py:123] Initializing a V1 LLM engine (v0.30.0) with config: ...",
    "(EngineCore pid=8) INFO 11-22 13:48:03 [model_runner.py:130] Starting to load model tiny...",
    "(EngineCore pid=8) INFO 11-22 13:48:15 [kv_cache_utils.py:2395] GPU KV cache size: 65,536 tokens",
    "(EngineCore pid=8) Capturing CUDA graphs (decode, FULL): 100%|##########| 35/35 [00:01<00:00, 20.16it/s]",
    "(APIServer pid=7) INFO 11-22 13:49:19 [entry.py:139] Starting vLLM server on http://127.0.0.1",
)
WORKER = (
    "import subprocess, sys, time\n"
    "subprocess.run([sys.executable, '-I', '-S', '-c', *sys.argv[1:]], env={})\n"
    "time.sleep(600)\n"
)
RUN_AWAY = (
    "import os, signal, sys, time\n"
    "os.setsid()\n"
    "for number in (signal.SIGTERM, signal.SIGHUP): signal.signal(number, signal.SIG_IGN)\n"
    "if os.fork(): os._exit(0)\n"
    "time.sleep(600)\n"
)


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What the stand-in does wrong."""

    fails: str | None = None
    """A key of ``FAILURES``: it ends at its start with that in its log."""
    starts_in_s: float = 0.0
    hangs: bool = False
    """It never answers."""
    dies_after_s: float | None = None
    """Seconds from when it answers to when it ends, in the way of an engine that died."""
    port_taken: str | None = None
    """A file that it makes and then ends as if its port were taken; with the file there it starts."""
    ignores_sigterm: bool = False
    children: int = 1
    """Worker processes; each has a child that left the session, lost its parent and its environment."""
    reset: str = "works"
    """``works``; ``refused``; ``lies``: says success and keeps the cache; ``silent``: works and has no body."""
    wrong_call: str | None = None
    """The ``X-Request-Id`` of a call that it answers wrongly, in the way of ``wrong``."""
    wrong: str = "token"
    """``token``: its last output token is another; ``prompt``: its prompt is a token shorter; ``cut``: the answer
    ends after its first token, and the connection with it."""

    def env(self) -> dict[str, str]:
        """The environment that tells the stand-in so."""
        return {VARIABLE: orjson.dumps(self).decode()}


def install(folder: Path, version: str = "0.30.0") -> dict[str, str]:
    """Writes the stand-in as a package ``vllm`` into ``folder``; returns the environment in which Python finds it."""
    main = f"from rejoule.replay.vllm.server.testing import main\nmain({version!r})\n"
    for file, text in {
        "vllm/__init__.py": "",
        "vllm/_version.py": f"__version__ = version = {version!r}\n",
        "vllm/entrypoints/__init__.py": "",
        "vllm/entrypoints/cli/__init__.py": "",
        "vllm/entrypoints/cli/main.py": main,
        "vllm/entrypoints/openai/__init__.py": "",
        "vllm/entrypoints/openai/api_server.py": main,
    }.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    # Where rejoule was imported from: links on the way stay as they are.
    rejoule = Path(__file__).absolute().parents[4]
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(rejoule)])}


def processes_of(folder: Path) -> list[str]:
    """Commands of running processes that name ``folder`` among their arguments, each after its number."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                words = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if str(folder).encode() in words:
                found.append(f"{process.name} {words.replace(bytes(1), b' ').decode(errors='replace')}")
    return found


def left_after(folder: Path, wait_s: float) -> list[str]:
    """The same, once none is left or ``wait_s`` have passed."""
    deadline_s = time.monotonic() + wait_s
    while (found := processes_of(folder)) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return found


def main(version: str) -> None:
    """The command line of ``vllm serve``, as far as ReJoule uses it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("words", nargs="*")
    parser.add_argument("--model")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--max-num-seqs", type=int)
    parser.add_argument("--max-num-active-seqs", type=int)
    parser.add_argument("--num-gpu-blocks-override", type=int)
    options, _ = parser.parse_known_args()
    options.model = options.model or options.words[-1]
    behaviour = msgspec.json.decode(os.environ.get(VARIABLE, "{}"), type=Behaviour)
    if behaviour.fails is not None:
        _end(FAILURES[behaviour.fails])
    if behaviour.port_taken is not None and not Path(behaviour.port_taken).exists():
        Path(behaviour.port_taken).touch()
        _end(PORT_TAKEN)
    if behaviour.ignores_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    workers = [_worker(options.model) for _ in range(behaviour.children)]
    for line in STARTING:
        print(line, flush=True)
        time.sleep(behaviour.starts_in_s / len(STARTING))
    while behaviour.hangs:
        time.sleep(1)
    _serve(options, behaviour, version, workers)


def _end(text: str) -> None:
    print(text, end="", flush=True)
    sys.exit(1)


def _worker(model: str) -> subprocess.Popen[bytes]:
    # The model is among the arguments so that ps tells whose they are.
    return subprocess.Popen([sys.executable, "-I", "-S", "-c", WORKER, RUN_AWAY, model], env={})


def _serve(
    options: argparse.Namespace, behaviour: Behaviour, version: str, workers: list[subprocess.Popen[bytes]]
) -> None:
    import asyncio

    from aiohttp import web

    from rejoule.replay.sim.config import EngineConfig
    from rejoule.replay.sim.shipped import load_profile

    batch = options.max_num_active_seqs or options.max_num_seqs or 256
    blocks = options.num_gpu_blocks_override or NUM_GPU_BLOCKS
    config = EngineConfig(load_profile(PROFILE), max_num_seqs=batch, num_gpu_blocks=blocks)
    server = _server(config, options.model, behaviour)
    app = server.app()
    gpu = os.environ.get(FAKE)
    if gpu is not None:
        from rejoule.replay.vllm.server.stand_in_gpu import attach

        attach(app, server, gpu)
    app.middlewares.append(_as_vllm(options, behaviour, version, blocks, config.profile.serving.block_size))

    async def run() -> None:
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, options.host, options.port).start()
        print("(APIServer pid=7) INFO:     Application startup complete.", flush=True)
        await asyncio.sleep(behaviour.dies_after_s if behaviour.dies_after_s is not None else 1e9)
        _end(
            "(EngineCore pid=8) ERROR 11-22 13:50:00 [core.py:900] RuntimeError: CUDA error: an illegal memory access "
            "was encountered\n(APIServer pid=7) ERROR 11-22 13:50:00 [async_llm.py:700] "
            "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above) for "
            "the root cause.\n"
        )

    try:
        asyncio.run(run())
    finally:
        if behaviour.dies_after_s is None:
            for worker in workers:
                worker.kill()


def _server(config: EngineConfig, model: str, behaviour: Behaviour) -> Server:
    """The embedded engine's server, or one that answers ``behaviour.wrong_call`` wrongly."""
    from dataclasses import replace

    from rejoule.replay.embedded.outputs import forced
    from rejoule.replay.embedded.server import Server

    class Wrong(Server):
        async def _serve(self, request: web.Request, calls: Sequence[Call], chat: bool) -> web.StreamResponse:
            call, *others = calls
            if request.headers.get("X-Request-Id") == behaviour.wrong_call:
                ids = list(call.answer.ids)
                if behaviour.wrong == "token":
                    call = replace(call, answer=forced([*ids[:-1], ids[-1] + 1]))
                elif behaviour.wrong == "prompt":
                    call = replace(call, prompt_ids=call.prompt_ids[:-1])
            return await super()._serve(request, [call, *others], chat)

        async def _stream(self, request: web.Request, speakers: Sequence[tuple[Reply, Ticket]]) -> web.StreamResponse:
            if behaviour.wrong != "cut" or request.headers.get("X-Request-Id") != behaviour.wrong_call:
                return await super()._stream(request, speakers)
            reply, ticket = speakers[0]
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
            await response.prepare(request)
            await ticket.more()
            await response.write(b"".join(reply.chunks(0, 1, ticket.cached_tokens)))
            if request.transport is not None:
                request.transport.close()
            return response

    return (
        Server(config, model, any_model=True) if behaviour.wrong_call is None else Wrong(config, model, any_model=True)
    )


def _as_vllm(
    options: argparse.Namespace, behaviour: Behaviour, version: str, blocks: int, block_size: int
) -> Middleware:
    from aiohttp import web

    scheduler = {
        "max_num_seqs": options.max_num_seqs or 256,
        "max_num_active_seqs": options.max_num_active_seqs,
        "max_num_batched_tokens": 8192,
        "policy": "fcfs",
    }
    configuration: Mapping[str, Any] = {
        "model_config": {"model": options.model, "max_model_len": 8192, "dtype": "bfloat16", "hf_token": "secret"},
        "cache_config": {"num_gpu_blocks": blocks, "block_size": block_size, "enable_prefix_caching": True},
        "scheduler_config": scheduler,
        "parallel_config": {"tensor_parallel_size": 1, "pipeline_parallel_size": 1, "data_parallel_size": 1},
    }

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == "/version":
            return web.json_response({"version": version})
        if request.path == "/energy" and FAKE in os.environ:
            raise web.HTTPNotFound  # as on a real server: its joules are the GPU's to tell
        if request.path == "/server_info":
            return web.json_response({"vllm_config": configuration, "vllm_env": {"VLLM_SERVER_DEV_MODE": True}})
        if request.path == "/v1/models":
            model = {"id": options.model, "object": "model", "owned_by": "vllm", "max_model_len": 8192}
            return web.json_response({"object": "list", "data": [model]})
        if request.path == "/reset_prefix_cache" and behaviour.reset != "works":
            if behaviour.reset == "silent":
                await handler(request)
                return web.Response()
            return web.json_response({"success": behaviour.reset == "lies"})
        return await handler(request)

    return middleware
