"""The modelled joules of a server that ``rejoule serve`` runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from rejoule.replay.engines.wire import Wire, WireError

PATH: Final = "/energy"
TOLD: Final = ("profile_digest", "gpus", "calibrated", "fitted_to_others", "expected_error")


class EmbeddedMeter:
    """Reads ``GET /energy`` of the embedded engine's server."""

    component = "gpu"

    def __init__(self, wire: Wire, source: str, identity: Mapping[str, Any]) -> None:
        self.source = source
        self.identity = identity
        """What is simulated: a profile, by its name and its content, and what it is worth."""
        self._wire = wire

    async def read_j(self) -> float | None:
        body = await _read(self._wire)
        return None if body is None else float(body["energy_j"])

    async def close(self) -> None:
        """The connections are their owner's."""


async def open_embedded(wire: Wire) -> EmbeddedMeter | None:
    """The meter of the server at the other end; ``None`` if it is not ReJoule's own."""
    body = await _read(wire)
    if body is None:
        return None
    source = str(body["source"])
    told: dict[str, Any] = {name: body[name] for name in TOLD if name in body}
    return EmbeddedMeter(wire, source, {"profile": source.removeprefix("model:"), **told})


async def _read(wire: Wire) -> dict[str, Any] | None:
    try:
        answer = await wire.get(PATH)
        body = orjson.loads(answer.body) if answer.status == 200 else None
    except (WireError, orjson.JSONDecodeError):
        return None
    return body if isinstance(body, dict) and body.keys() >= {"energy_j", "source"} else None
