"""A real vLLM on the CPU, serving a tiny model with dummy weights."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import pytest
from tests.vllm.environment import vllm_environment

HERE = Path(__file__).parent
STARTS_WITHIN_S = 300.0
OPTIONS = [
    *("--load-format", "dummy"),
    *("--dtype", "bfloat16"),
    "--enforce-eager",
    "--enable-prompt-tokens-details",
    # So that short prompts share blocks too.
    *("--block-size", "32"),
    # What graphs with tools need.
    "--enable-auto-tool-choice",
    *("--tool-call-parser", "hermes"),
    # A model that draws at random fills optional blanks up to the limit.
    *("--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}'),
    # vLLM 0.30 on a CPU dies of a request with a seed whose prompt is computed in pieces.
    "--no-enable-chunked-prefill",
]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The root of its API, ending in ``/v1``."""
    python = os.environ.get("VLLM_PYTHON")
    if not python:
        pytest.skip("VLLM_PYTHON names no Python that has vLLM; run: make test-vllm")
    folder = tmp_path_factory.mktemp("vllm")
    subprocess.run([python, HERE / "tiny_model.py", folder / "model"], check=True)
    root = f"http://127.0.0.1:{(port := _free_port())}"
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder / "model")]
    command += ["--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(port), *OPTIONS]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, str(HERE / "leash.py"), *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=vllm_environment(),
            start_new_session=True,
        ) as leash,
    ):
        _wait_until_up(root, leash, folder / "log")
        yield f"{root}/v1"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_until_up(root: str, leash: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while leash.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), urlopen(f"{root}/health", timeout=5):
            return
        time.sleep(0.2)
    said = "\n".join(log.read_text(errors="replace").splitlines()[-40:])
    pytest.fail(f"vLLM did not start; the end of {log}:\n{said}")
