"""The modelled joules of a server that ``rejoule serve`` runs."""

from __future__ import annotations

import aiohttp


class EmbeddedMeter:
    """Reads ``GET /energy`` of the embedded engine's server."""

    component = "gpu"

    def __init__(self, http: aiohttp.ClientSession, url: str, source: str) -> None:
        self.source = source
        self._http = http
        self._url = url

    async def read_j(self) -> float | None:
        try:
            async with self._http.get(self._url) as response:
                return float((await response.json())["energy_j"])
        except (aiohttp.ClientError, TimeoutError, KeyError, ValueError):
            return None

    async def close(self) -> None:
        """The session is its owner's."""


async def open_embedded(http: aiohttp.ClientSession, root_url: str) -> EmbeddedMeter | None:
    """The meter of the server at ``root_url``; ``None`` if it is not ReJoule's own."""
    url = f"{root_url}/energy"
    try:
        async with http.get(url) as response:
            if response.status != 200:
                return None
            return EmbeddedMeter(http, url, str((await response.json())["source"]))
    except (aiohttp.ClientError, TimeoutError, KeyError, ValueError):
        return None
