"""Keys and passwords: what is one, and how it is kept out of everything that is stored, shown or passed on.

A configuration never holds one: in its place stands a mask, which tells two of them apart and of which only this
process knows what it stands for. Servers may repeat a key in their errors, so texts of others are cleared of all keys
that this process has sent.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from rejoule.traces.errors import RejouleError

NAME: Final = re.compile(
    r"(^|[-_.])(auth|authorization|cookie|key|token|password|passwd|secret|credentials?)$", re.IGNORECASE
)
"""Of an option, a header or a variable whose value is secret: what it ends in."""
SHORTEST: Final = 6
"""Shorter values stand in texts by chance."""
HIDDEN: Final = "[key]"
MASK: Final = "***"
VARIABLE: Final = "OPENAI_API_KEY"
SCHEMES: Final = ("Bearer", "Basic", "Digest")

_behind: dict[str, str] = {}
_sent: set[str] = set()


def is_secret(name: str) -> bool:
    return NAME.search(name) is not None


def masked(tree: Any) -> Any:
    """Plain data with the values of secret names replaced by masks, which ``revealed`` takes off again."""
    return _with_masks(tree, _mask_of)


def blanked(tree: Any) -> Any:
    """The same for good, as of what others say of themselves."""
    return _with_masks(tree, lambda _: MASK)


def _with_masks(tree: Any, mask: Callable[[str], str]) -> Any:
    if isinstance(tree, Mapping):
        return {
            k: mask(v) if v and isinstance(v, str) and is_secret(str(k)) else _with_masks(v, mask)
            for k, v in tree.items()
        }
    return [_with_masks(v, mask) for v in tree] if isinstance(tree, list | tuple) else tree


def revealed(tree: Any) -> Any:
    """Plain data with what masks stand for, for whoever needs the key itself; a mask of another process stays."""
    if isinstance(tree, Mapping):
        return {k: revealed(v) for k, v in tree.items()}
    if isinstance(tree, list | tuple):
        return [revealed(v) for v in tree]
    return _behind.get(tree, tree) if isinstance(tree, str) else tree


def learn(values: Iterable[str]) -> None:
    """Remembers keys that are sent, so that ``hidden`` finds them."""
    _sent.update(value for value in values if len(value) >= SHORTEST)


def learn_headers(headers: Iterable[tuple[str, str]]) -> None:
    """Remembers the credentials among a request's headers."""
    learn(word for name, value in headers if is_secret(name) for word in value.split() if word not in SCHEMES)


def hidden(text: str) -> str:
    """A text of others without the keys that this process has sent, whatever it quotes."""
    for secret in sorted(_sent, key=lambda s: (-len(s), s)):
        text = text.replace(secret, HIDDEN)
    return text


def described(error: BaseException) -> str:
    """One line on an error, safe to keep."""
    message = " ".join(hidden(str(error)).split())
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def api_key() -> str | None:
    """The key that OpenAI's clients would send. Raises RejouleError for one that no header can carry."""
    key = os.environ.get(VARIABLE, "").strip()
    if not key:
        return None
    if not (key.isascii() and key.isprintable()):
        raise RejouleError(f"the key in {VARIABLE} has characters that no HTTP header can carry", "set it again")
    learn([key])
    return key


def _mask_of(value: str) -> str:
    if value.startswith(MASK):
        return value
    mask = MASK + hashlib.sha256(value.encode()).hexdigest()[:8]
    _behind[mask] = value
    learn([value])
    return mask
