"""The server that a recording talks to: what it says of itself, and how requests are fitted to it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from rejoule.traces.errors import RejouleError
from rejoule.traces.secrets import api_key

SPEAKS_TOKEN_IDS = frozenset({"vllm", "rejoule"})
"""Values of ``owned_by`` of servers that answer ``return_token_ids``."""

PROBE_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """An OpenAI-compatible server."""

    base_url: str
    """Root of its API, ending in ``/v1``."""
    models: tuple[str, ...] = ()
    """Names that it lists; empty lets any name pass."""
    owned_by: str | None = None
    version: str | None = None
    max_model_len: int | None = None
    api_key: str = "none"

    @property
    def returns_token_ids(self) -> bool:
        """Whether it says which tokens it read and wrote."""
        return self.owned_by in SPEAKS_TOKEN_IDS

    @property
    def description(self) -> dict[str, Any]:
        """What a trace's header says of it; never its key."""
        said = {"owned_by": self.owned_by, "version": self.version, "max_model_len": self.max_model_len}
        return {key: value for key, value in said.items() if value is not None}

    @contextmanager
    def environment(self) -> Iterator[None]:
        """Points OpenAI clients that say nothing else at this server, while the context is open."""
        ours = {"OPENAI_BASE_URL": self.base_url, "OPENAI_API_BASE": self.base_url}
        if os.environ.get("OPENAI_API_KEY", "").strip() in ("", self.api_key):
            ours["OPENAI_API_KEY"] = self.api_key
        host = urlsplit(self.base_url).hostname
        for name in ("NO_PROXY", "no_proxy"):
            ours[name] = ",".join(filter(None, (os.environ.get(name), host)))
        before = {name: os.environ.get(name) for name in ours}
        os.environ.update(ours)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


async def probe(base_url: str, *, given: str | None = None) -> ServerInfo:
    """Asks a server what it serves; raises ``RejouleError`` where nothing usable answers."""
    import aiohttp

    base_url = base_url.rstrip("/")
    key = given or api_key() or "none"
    headers = {"Authorization": f"Bearer {key}"}
    timeout = aiohttp.ClientTimeout(total=PROBE_TIMEOUT_S)
    try:
        async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
            async with session.get(f"{base_url}/models") as response:
                if response.status != 200:
                    raise RejouleError(
                        f"{base_url}/models answered with HTTP {response.status}",
                        "set OPENAI_API_KEY to a key of this server"
                        if response.status in (401, 403)
                        else "give the root of an OpenAI-compatible API, as in http://localhost:8000/v1",
                    )
                listed = [m for m in (await response.json(content_type=None))["data"] if m.get("id")]
            version = await _version(session, base_url)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        reason = str(error).replace(" ssl:default", "") or type(error).__name__
        raise RejouleError(
            f"no server answers at {base_url} ({reason})",
            "start one there, or record with --engine sim",
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RejouleError(
            f"{base_url}/models does not list models", "give the root of an OpenAI-compatible API, ending in /v1"
        ) from error
    first: Mapping[str, Any] = listed[0] if listed else {}
    owner, longest = first.get("owned_by"), first.get("max_model_len")
    return ServerInfo(
        base_url=base_url,
        models=tuple(str(m["id"]) for m in listed),
        owned_by=owner if isinstance(owner, str) else None,
        version=version,
        max_model_len=longest if isinstance(longest, int) and 0 < longest < 2**63 else None,
        api_key=key,
    )


async def _version(session: Any, base_url: str) -> str | None:
    """vLLM says its version beside its API's root; other servers may not."""
    async with session.get(f"{base_url.removesuffix('/v1')}/version") as response:
        if response.status != 200:
            return None
        try:
            said = (await response.json(content_type=None))["version"]
        except (ValueError, TypeError, KeyError):
            return None
        return str(said)
