"""Clients of many libraries and processes; worker processes import it."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import httpx2
import requests
from openai import OpenAI

PROGRAM = """
import json, os, sys, urllib.request
url = (sys.argv[1] if len(sys.argv) > 1 else os.environ["OPENAI_BASE_URL"]) + "/chat/completions"
data = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "program"}]}).encode()
urllib.request.urlopen(urllib.request.Request(url, data, {"content-type": "application/json"})).read()
"""


def url() -> str:
    return os.environ["OPENAI_BASE_URL"]


def body(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": text}], **more}


def by_sdk(text: str) -> None:
    with OpenAI(max_retries=0) as client:
        client.chat.completions.create(**body(text))


def by_wired_sdk(text: str) -> None:
    with OpenAI(base_url="https://api.openai.com/v1", api_key="sk-wired-in", max_retries=0) as client:
        client.chat.completions.create(**body(text))


def by_httpx(text: str) -> None:
    httpx2.post(f"{url()}/chat/completions", json=body(text)).raise_for_status()


def part_by_requests(text: str, kept: list[Any]) -> None:
    """Reads one line of a stream, and keeps it open."""
    answer = requests.post(f"{url()}/chat/completions", json=body(text, stream=True), stream=True)
    kept += [answer, lines := answer.iter_lines(chunk_size=1)]
    next(lines)


async def part_by_aiohttp(text: str, kept: list[Any]) -> None:
    """The same, in a task of its own."""
    session = aiohttp.ClientSession()
    answer = await session.post(f"{url()}/chat/completions", json=body(text, stream=True))
    kept += [session, answer]
    await answer.content.readline()


def by_streamed_upload(text: str) -> None:
    data = json.dumps(body(text)).encode()
    httpx2.post(f"{url()}/chat/completions", content=iter([data[:9], data[9:]])).raise_for_status()


def by_requests(text: str) -> None:
    with requests.Session() as session:
        session.post(f"{url()}/chat/completions", json=body(text)).raise_for_status()


def by_urllib(text: str) -> None:
    data = json.dumps(body(text)).encode()
    request = urllib.request.Request(f"{url()}/chat/completions", data, {"content-type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        answer.read()


def by_http_client(text: str) -> None:
    parts = urlsplit(url())
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    connection.request("POST", f"{parts.path}/chat/completions", json.dumps(body(text)))
    connection.getresponse().read()
    connection.close()


def by_aiohttp(text: str) -> None:
    async def ask() -> None:
        async with aiohttp.ClientSession() as session, session.post(f"{url()}/chat/completions", json=body(text)) as r:
            await r.read()

    asyncio.run(ask())


def by_program(text: str) -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)


def by_program_with_url(text: str) -> None:
    subprocess.run([sys.executable, "-c", PROGRAM, url()], check=True, env={"PATH": os.environ["PATH"]})


def by_fork(text: str, send: Callable[[str], None] = by_requests) -> None:
    """In a child of this process."""
    if not (child := os.fork()):
        try:
            send(text)
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def by_grandchild(text: str) -> None:
    by_fork(text, by_fork)


def by_wired_sdk_in_a_fork(text: str) -> None:
    by_fork(text, by_wired_sdk)


def by_socket(text: str) -> None:
    """No library that anybody knows."""
    parts, data = urlsplit(url()), json.dumps(body(text)).encode()
    with socket.create_connection((parts.hostname, parts.port)) as wire:
        head = f"POST {parts.path}/chat/completions HTTP/1.0\r\nContent-Length: {len(data)}\r\n\r\n"
        wire.sendall(head.encode() + data)
        while wire.recv(65536):
            pass
