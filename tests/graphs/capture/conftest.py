"""A witness to record from, and a bench that records graphs and checks them against it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest

from .bench import Bench
from .witness import Witness, serving


@pytest.fixture(scope="session")
def served() -> Iterator[Witness]:
    with serving(Witness()) as witness:
        yield witness


@pytest.fixture
def witness(served: Witness) -> Witness:
    served.sightings.clear()
    served._failed.clear()
    return served


@pytest.fixture
async def bench(witness: Witness, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-users-own-key")
    monkeypatch.setenv("OPENAI_BASE_URL", witness.base_url)
    async with httpx2.AsyncClient() as async_client:
        with httpx2.Client() as client:
            yield Bench(witness, client, async_client)
