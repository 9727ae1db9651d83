"""What a server is started with, by version and device, and what a forced request looks like."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from rejoule.replay.vllm.plugin.arguments import plugin_path, server_arguments
from rejoule.replay.vllm.plugin.forcing import Forcing, forced_request
from rejoule.traces import RejouleError

PROCESSOR = ("--logits-processors", "rejoule_vllm.forced_tokens:ForcedTokens")


@pytest.mark.parametrize(
    ("version", "device", "arguments", "runner", "forcing"),
    [
        ("0.26.0", "cuda", PROCESSOR, "0", "logits-processor"),
        ("0.28.1", "cuda", PROCESSOR, "0", "logits-processor"),
        ("0.29.0", "cuda", ("--enable-trace-replay",), "1", "trace-replay"),
        ("0.30.0", "cuda", ("--enable-trace-replay", "--enable-scale-out"), "1", "trace-replay"),
        ("0.30.0+cpu", "cpu", PROCESSOR, "0", "logits-processor"),
    ],
)
def test_tokens_are_forced_by_what_the_version_has_on_the_device(
    version: str, device: Literal["cpu", "cuda"], arguments: tuple[str, ...], runner: str, forcing: Forcing
) -> None:
    plugin = server_arguments(version, device=device, forced_tokens=True, step_tap=None)
    assert plugin.arguments == arguments
    assert plugin.environment["VLLM_USE_V2_MODEL_RUNNER"] == runner
    assert plugin.forcing == forcing


def test_a_tap_alone_does_not_change_the_model_runner(tmp_path: Path) -> None:
    plugin = server_arguments("0.26.0", device="cuda", forced_tokens=False, step_tap=tmp_path / "tap")
    assert plugin.arguments == ("--scheduler-cls", "rejoule_vllm.step_tap.TappedScheduler")
    assert plugin.environment.keys() == {"REJOULE_STEP_TAP", "PYTHONPATH"}
    assert plugin.forcing is None


def test_a_server_without_forcing_and_tap_is_left_as_it_is() -> None:
    plugin = server_arguments("0.26.0", device="cuda", forced_tokens=False, step_tap=None)
    assert plugin.arguments == () and plugin.environment == {}


def test_the_python_path_of_the_caller_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/some/where")
    plugin = server_arguments("0.26.0", device="cpu", forced_tokens=True, step_tap=None)
    assert plugin.environment["PYTHONPATH"] == f"{plugin_path()}{os.pathsep}/some/where"


def test_the_package_for_the_server_is_where_the_path_says() -> None:
    code = "import rejoule_vllm.recorder, sys; sys.exit(any(m.split('.')[0] == 'rejoule' for m in sys.modules))"
    subprocess.run([sys.executable, "-S", "-c", code], check=True, env={"PYTHONPATH": str(plugin_path())})


def test_a_version_that_is_none_is_refused() -> None:
    with pytest.raises(RejouleError):
        server_arguments("latest", device="cpu", forced_tokens=True, step_tap=None)


def test_a_forced_request_ends_by_its_length_and_nothing_else() -> None:
    body = {
        "model": "m",
        "messages": [],
        "temperature": 1.0,
        "seed": 3,
        "stop": ["x"],
        "stop_token_ids": [2],
        "min_tokens": 4,
        "max_completion_tokens": 99,
        "vllm_xargs": {"other": 1},
    }
    before = dict(body)
    forced = forced_request(body, [5, 2, 9], "logits-processor")
    assert forced == {
        "model": "m",
        "messages": [],
        "temperature": 1.0,
        "max_tokens": 3,
        "ignore_eos": True,
        "vllm_xargs": {"other": 1, "forced_token_ids": "5,2,9"},
    }
    assert body == before


def test_trace_replay_takes_the_ids_as_a_sampling_parameter() -> None:
    body = {"token_ids": [1, 2], "sampling_params": {"temperature": 0.5, "stop": ["x"], "max_tokens": 50}}
    forced = forced_request(body, [5, 2], "trace-replay")
    assert forced["token_ids"] == [1, 2]
    assert forced["sampling_params"] == {
        "temperature": 0.5,
        "max_tokens": 2,
        "ignore_eos": True,
        "trace_decode_token_ids": [5, 2],
    }


def test_a_call_without_output_cannot_be_forced() -> None:
    with pytest.raises(RejouleError):
        forced_request({}, [], "logits-processor")
