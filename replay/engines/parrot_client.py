"""Parrot's HTTP interface, as far as a replay needs it, and whether a server of it is fit to be measured."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Final, TypeVar

import msgspec
import orjson

from rejoule.replay.engines.completion import error_text
from rejoule.replay.engines.wire import Wire, WireError
from rejoule.traces import RejouleError
from rejoule.traces.decoding import DamagedError, decoded

LATENCY: Final = "latency"
"""What is asked of every answer that no other call in Parrot waits for; for the others Parrot derives it."""
PROBES: Final = 5
SLOW_S: Final = 0.01
"""Submitting a call takes Parrot a millisecond; the network latency that it can simulate is of tens."""
CHECK_S: Final = 60.0
"""How long a first token may take before anything is measured."""

T = TypeVar("T")


class _Session(msgspec.Struct):
    session_id: int


class _Parameter(msgspec.Struct):
    is_output: bool
    var_id: str


class _Submitted(msgspec.Struct):
    param_info: list[_Parameter]


class _Answer(msgspec.Struct):
    content: str


_SESSION: Final = msgspec.json.Decoder(_Session).decode
_SUBMITTED: Final = msgspec.json.Decoder(_Submitted).decode
_ANSWER: Final = msgspec.json.Decoder(_Answer).decode
_ANYTHING: Final = msgspec.json.Decoder().decode


class ParrotError(Exception):
    """What Parrot said instead of an answer."""


class ParrotClient:
    """A Parrot server's own requests. All raise WireError where no answer comes, and ParrotError for another one."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def session(self) -> int:
        return (await self._said("POST", "/v1/session", {"api_key": "none"}, _SESSION)).session_id

    async def submit(self, body: Mapping[str, Any], name: str | None = None) -> str:
        """Submits a semantic call; Parrot's name of the variable that its answer will be."""
        said = await self._said("POST", "/v1/semantic_call", body, _SUBMITTED, name)
        outputs = [parameter.var_id for parameter in said.param_info if parameter.is_output]
        if not outputs:
            raise ParrotError("a submitted call came back without a variable for its answer")
        return outputs[0]

    async def answer(self, session: int, variable: str, name: str | None = None) -> str:
        """A variable's text, once it is there; what writes it begins if it has not begun."""
        body = {"session_id": session, "session_auth": "1", "criteria": LATENCY}
        return (await self._said("GET", f"/v1/semantic_var/{variable}", body, _ANSWER, name)).content

    async def probe(self, session: int) -> None:
        """Raises ParrotError once Parrot has given a session up: of a call that failed nothing else tells."""
        body = {"session_id": session, "session_auth": "1", "var_name": "probe"}
        await self._said("POST", "/v1/semantic_var", body, _ANYTHING)

    async def end(self, session: int) -> None:
        await self._said("DELETE", f"/v1/session/{session}", {"session_auth": "1"}, _ANYTHING)

    async def _said(
        self, method: str, path: str, body: Mapping[str, Any], decode: Callable[[bytes], T], name: str | None = None
    ) -> T:
        request = self._wire.request(path, orjson.dumps(body), None, name=name, method=method)
        await request.send()
        await request.answer()
        if request.status != 200:
            raise ParrotError(f"HTTP {request.status}: {error_text(request.body)}")
        try:
            return decoded(request.body, decode)
        except DamagedError as error:
            raise ParrotError(f"{path} answered in no form of Parrot's: {error}") from None


async def submitting_s(client: ParrotClient, url: str, limit_s: float = CHECK_S) -> float:
    """Seconds by which submitting a call is slower than another request: what Parrot itself adds to each call.

    Before that, one call of one token is answered. Raises RejouleError if the server cannot be reached, does not answer
    or adds so much that it must be simulating a network.
    """
    try:
        async with asyncio.timeout(limit_s):
            session = await client.session()
            body = _smallest(session)
            await client.answer(session, await client.submit(body))
            plain_s, submit_s = [], []
            for _ in range(PROBES):
                plain_s.append(await _took_s(client.probe(session)))
                submit_s.append(await _took_s(client.submit(body)))
            await client.end(session)
    except WireError as error:
        remedy = "check the URL and that ServeCore is up: an error of its engine can end it, so see the logs of both"
        raise RejouleError(f"cannot reach a Parrot server at {url}: {error}", remedy) from error
    except ParrotError as error:
        raise RejouleError(
            f"the server at {url} takes no call as Parrot does: {error}",
            "check that it is Parrot's ServeCore, started with SIMULATE_NETWORK_LATENCY_PRT=0 in its environment",
        ) from None
    except TimeoutError:
        raise RejouleError(
            f"the Parrot server at {url} did not answer a call of one token within {limit_s:g} s",
            "register an engine with engine_type openai and api_endpoint chat (completion reads the wrong field)",
        ) from None
    added_s = max(0.0, min(submit_s) - min(plain_s))
    if added_s > SLOW_S:
        raise RejouleError(
            f"the Parrot server at {url} takes {added_s * 1e3:.0f} ms longer over a call than over another request: it "
            "simulates a network",
            "start it with SIMULATE_NETWORK_LATENCY_PRT=0",
        )
    return added_s


def _smallest(session: int) -> dict[str, Any]:
    answer = {"name": "answer", "is_output": True, "sampling_config": {"max_gen_length": 1}}
    return {
        "session_id": session, "session_auth": "1", "func_name": "check", "template": "Hello {{answer}}",
        "parameters": [answer], "models": [], "model_type": "text", "remove_pure_fill": True,
    }  # fmt: skip


async def _took_s(work: Any) -> float:
    began = monotonic()
    await work
    return monotonic() - began
