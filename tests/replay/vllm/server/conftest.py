"""Options of servers that are a stand-in for vLLM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rejoule.replay.vllm.server import ServerOptions
from rejoule.replay.vllm.server.testing import Behaviour, install

MakeOptions = Callable[..., ServerOptions]


@pytest.fixture
def options(tmp_path: Path) -> MakeOptions:
    """Options of a stand-in server whose processes all bear the test's folder among their arguments."""
    env = install(tmp_path / "site")
    (tmp_path / "model").mkdir()

    def make(behaviour: Behaviour | None = None, **changes: object) -> ServerOptions:
        told = (behaviour or Behaviour()).env()
        plain = ServerOptions(str(tmp_path / "model"), env={**env, **told}, grace_s=5.0)
        return replace(plain, **changes)  # type: ignore[arg-type]

    return make
