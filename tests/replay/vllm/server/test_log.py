"""What is read from a vLLM log."""

from __future__ import annotations

import pytest

from rejoule.replay.vllm.server.log import phase_of, port_taken, reason_of
from rejoule.replay.vllm.server.testing import FAILURES, PORT_TAKEN, STARTING

KV_TOO_SMALL = """\
(EngineCore pid=8) ERROR 11-22 13:48:04 [core.py:900] EngineCore failed to start.
(EngineCore pid=8) ERROR 11-22 13:48:04 [core.py:900] Traceback (most recent call last):
(EngineCore pid=8) ERROR 11-22 13:48:04 [core.py:900]   File "/vllm/v1/core/kv_cache_utils.py", line 700, in check
(EngineCore pid=8) ERROR 11-22 13:48:04 [core.py:900] ValueError: To serve at least one request with the models's max \
seq len (2048), (0.03 GiB KV cache is needed, which is larger than the available KV cache memory (0.01 GiB).
(EngineCore pid=8) Process EngineCore:
(EngineCore pid=8) ValueError: To serve at least one request with the models's max seq len (2048), (0.03 GiB KV cache \
is needed, which is larger than the available KV cache memory (0.01 GiB).
(APIServer pid=7) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
(APIServer pid=7) ConnectionResetError: [Errno 104] Connection reset by peer
"""
MODEL = """\
(APIServer pid=7) Traceback (most recent call last):
(APIServer pid=7) OSError: nothing at this place
(APIServer pid=7)
(APIServer pid=7) During handling of the above exception, another exception occurred:
(APIServer pid=7)
(APIServer pid=7) huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name': '/no/model'.
"""
ENGINE_KILLED = """\
(APIServer pid=7) WARNING 11-22 14:15:17 [core_client.py:791] [shutdown] MPClient: engine core exited unexpectedly; \
starting cleanup
(APIServer pid=7) ERROR 11-22 14:15:17 [async_llm.py:843] AsyncLLM output_handler failed.
(APIServer pid=7) ERROR 11-22 14:15:17 [async_llm.py:843] vllm.v1.engine.exceptions.EngineDeadError: EngineCore \
encountered an issue. See stack trace (above) for the root cause.
(APIServer pid=7) INFO:     Finished server process [7]
nanobind: leaked 4 instances!
"""
WORKER_KILLED = """\
(EngineCore pid=8) ERROR 11-22 14:15:17 [multiproc_executor.py:315] Worker proc VllmWorker-1 died unexpectedly (exit \
code: -9), shutting down executor.
(EngineCore pid=8) ConnectionResetError: [Errno 104] Connection reset by peer
"""


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (FAILURES["option"], "unrecognized arguments: --no-such-option"),
        (FAILURES["length"], "User-specified max_model_len (100000) is greater than the derived max_model_len"),
        (FAILURES["memory"], "OutOfMemoryError: CUDA out of memory. Tried to allocate 224.00 MiB."),
        (KV_TOO_SMALL, "To serve at least one request with the models's max seq len (2048)"),
        (MODEL, "HFValidationError: Repo id must be in the form 'repo_name': '/no/model'."),
        (ENGINE_KILLED, "engine core exited unexpectedly"),
        (WORKER_KILLED, "Worker proc VllmWorker-1 died unexpectedly (exit code: -9)"),
        ("ValueError: one request\n" + "INFO\n" * 500 + ENGINE_KILLED, "engine core exited unexpectedly"),
        (PORT_TAKEN, "OSError: [Errno 98] Address already in use"),
    ],
)
def test_root_cause(log: str, reason: str) -> None:
    """The reason is the failed process's own error: not the ones that point at it, nor those that follow from it."""
    found = reason_of(log.splitlines(), 1)
    assert found.startswith(reason)
    assert "\n" not in found


def test_reason_without_an_error() -> None:
    """A server that was killed says by what; one that says nothing of why is quoted."""
    assert reason_of(["INFO fine"], -9) == "killed by SIGKILL, as the kernel does when memory runs out"
    assert reason_of(["INFO fine", ""], 3) == "it ended with status 3, and last said: INFO fine"
    assert reason_of([], 0) == "it ended with status 0 without a word"


def test_reason_is_short() -> None:
    """A reason fits a terminal, however much vLLM says."""
    assert len(reason_of(["ValueError: " + "x" * 10_000], 1)) <= 300


def test_port_taken() -> None:
    """Only a start that failed for want of a port counts as a conflict."""
    assert port_taken(PORT_TAKEN.splitlines())
    assert not any(port_taken(text.splitlines()) for text in FAILURES.values())


def test_phases_follow_the_log() -> None:
    """Each stage of vLLM's start is told by name, in vLLM's order."""
    assert [phase_of(line) for line in STARTING] == [
        "reading the configuration",
        "starting the engine",
        "loading weights",
        "sizing the KV cache",
        "capturing graphs",
        "opening the port",
    ]
    assert phase_of("INFO nothing of note") is None
