"""The command that starts a server, and what may be kept of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from rejoule.replay.vllm.server import Plugin, ServerOptions, Vllm, command, server_key
from rejoule.replay.vllm.server.command import Launch, without_secrets
from rejoule.replay.vllm.server.installation import API_SERVER, release
from rejoule.traces import RejouleError

OLD = Vllm("/env/bin/python", "0.30.0", ("-m", "vllm.entrypoints.cli.main", "serve"))
NEW = replace(OLD, version="0.31.0rc1")


def launched(options: ServerOptions, vllm: Vllm = OLD, inherited: Mapping[str, str] | None = None) -> Launch:
    return command(options, vllm, 8123, inherited or {})


def value(launch: Launch, flag: str) -> str | None:
    return launch.argv[launch.argv.index(flag) + 1] if flag in launch.argv else None


def test_batch_size_before_031() -> None:
    """Until 0.30 the batch size is --max-num-seqs, whatever else is swept, and the launch says so."""
    launch = launched(ServerOptions("m", max_num_seqs=8, largest_num_seqs=64, num_gpu_blocks=500))
    assert value(launch, "--max-num-seqs") == "8"
    assert value(launch, "--num-gpu-blocks-override") == "500"
    assert "--max-num-active-seqs" not in launch.argv
    assert (launch.batch_knob, launch.blocks_pinned) == ("max_num_seqs", True)


def test_batch_size_from_031() -> None:
    """From 0.31 the engine is built for the sweep's largest batch, and only the active limit changes."""
    launch = launched(ServerOptions("m", max_num_seqs=8, largest_num_seqs=64), NEW)
    assert value(launch, "--max-num-seqs") == "64"
    assert value(launch, "--max-num-active-seqs") == "8"
    assert (launch.batch_knob, launch.blocks_pinned) == ("max_num_active_seqs", False)


def test_default_batch_size_is_left_to_vllm() -> None:
    """Without a batch size vLLM chooses its own, and the launch claims no knob."""
    launch = launched(ServerOptions("m"), NEW)
    assert launch.batch_knob is None
    assert "--max-num-seqs" not in launch.argv


def test_measurement_needs() -> None:
    """Every server listens here only, counts cached tokens, and has the endpoints for reset and configuration."""
    launch = launched(ServerOptions("m"))
    assert launch.argv[:5] == ("/env/bin/python", "-m", "vllm.entrypoints.cli.main", "serve", "m")
    assert (value(launch, "--host"), value(launch, "--port")) == ("127.0.0.1", "8123")
    assert "--enable-prompt-tokens-details" in launch.argv
    assert launch.env["VLLM_SERVER_DEV_MODE"] == "1"


def test_model_of_a_build_without_the_command() -> None:
    """A build that is not called vllm gets its model by --model."""
    assert launched(ServerOptions("m"), replace(OLD, entry=API_SERVER)).argv[1:5] == (*API_SERVER, "m")


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("tensor_parallel_size", 2, ("--tensor-parallel-size", "2")),
        ("data-parallel-size", 4, ("--data-parallel-size", "4")),
        ("--dtype", "bfloat16", ("--dtype", "bfloat16")),
        ("enforce_eager", True, ("--enforce-eager",)),
        ("enable_prefix_caching", False, ("--no-enable-prefix-caching",)),
        ("compilation_config", {"level": 3}, ("--compilation-config", '{"level":3}')),
        ("cudagraph_capture_sizes", [1, 2], ("--cudagraph-capture-sizes", "1", "2")),
        ("seed", -1, ("--seed=-1",)),
        ("quantization", None, ()),
    ],
)
def test_any_option_passes_through(name: str, given: Any, words: tuple[str, ...]) -> None:
    """Options of vLLM are given by name with TOML values and become its flags."""
    plain = launched(ServerOptions("m")).argv
    assert launched(ServerOptions("m", arguments={name: given})).argv == (*plain, *words)


@pytest.mark.parametrize("name", ["max_num_seqs", "--num-gpu-blocks-override", "port", "api-key", "disable_log_stats"])
def test_options_that_rejoule_owns(name: str) -> None:
    """An option that ReJoule sets itself is refused by name."""
    with pytest.raises(RejouleError, match=name):
        launched(ServerOptions("m", arguments={name: 1}))


def test_plugin_comes_last_and_users_environment_wins() -> None:
    """A plug-in adds arguments, variables and folders; the user's own variables win over both."""
    plugin = Plugin(("--logits-processors", "p:P"), {"A": "plugin", "B": "plugin"}, ("/plugin",))
    launch = launched(ServerOptions("m", env={"A": "user"}, plugin=plugin), inherited={"PYTHONPATH": "/own"})
    assert launch.argv[-2:] == ("--logits-processors", "p:P")
    assert (launch.env["A"], launch.env["B"]) == ("user", "plugin")
    assert launch.env["PYTHONPATH"] == "/plugin:/own"


def test_secrets_are_masked() -> None:
    """Values of tokens and keys do not reach a description; options that merely count tokens do."""
    argv = ("vllm", "--hf-token", "s3cret", "--x-api-key=s3cret", "--max-num-batched-tokens", "8192")
    kept = without_secrets(argv)
    assert "s3cret" not in " ".join(kept)
    assert kept[-2:] == argv[-2:]


def test_server_key_is_of_the_engine() -> None:
    """One server serves options that differ only in patience; any engine option needs another."""
    options = ServerOptions("m", arguments={"a": 1, "b": 2}, max_num_seqs=8)
    same = replace(options, ready_timeout_s=1.0, grace_s=1.0, arguments={"b": 2, "a": 1})
    assert server_key(same) == server_key(options)
    others = [replace(options, max_num_seqs=9), replace(options, env={"A": "1"}), replace(options, num_gpu_blocks=1)]
    assert len({server_key(o) for o in (options, *others)}) == 4


@pytest.mark.parametrize(
    ("version", "expected"),
    [("0.30.0", (0, 30)), ("0.31.0rc2.dev3+g12", (0, 31)), ("1.2", (1, 2)), ("dev", (1 << 30, 0))],
)
def test_release(version: str, expected: tuple[int, int]) -> None:
    """Versions are compared by number; a build without one counts as new."""
    assert release(version) == expected
