"""Seals: a stored JSON object states the digest of its own content, so that damage cannot pass for a figure.

What JSON leaves open (white space, the order of keys, how a number is spelt) is not sealed: it changes nothing that is
read. Files written before there were seals have none, and are taken as they are.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final

import orjson

from rejoule.traces.decoding import DamagedError

SEAL: Final = "digest"
CHANGED: Final = "it is not what was written: the digest that it states is not its content's"
_PLAIN: Final = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS


def content_digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON: equal for equal content, on any machine."""
    return hashlib.sha256(orjson.dumps(value, option=_PLAIN)).hexdigest()


def sealed(value: Any, option: int = orjson.OPT_INDENT_2) -> bytes:
    """What makes a JSON object, as JSON with its digest; ``option`` is orjson's."""
    body = orjson.loads(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS))
    return orjson.dumps(body | {SEAL: content_digest(body)}, option=option)


def unsealed(body: dict[str, Any], *, required: bool) -> dict[str, Any]:
    """A stored object without its digest. Raises DamagedError if that is another one, or missing where ``required``."""
    rest = {name: value for name, value in body.items() if name != SEAL}
    if required and SEAL not in body:
        raise DamagedError(f"it is not what was written: its {SEAL} is missing")
    try:
        if SEAL in body and body[SEAL] != content_digest(rest):
            raise DamagedError(CHANGED)
    except orjson.JSONEncodeError as error:
        raise DamagedError(str(error)) from None
    return rest


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
