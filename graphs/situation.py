"""What every workflow of a graph is run with beside its input: LangGraph's run-time context and its config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from rejoule.traces.errors import RejouleError


@dataclass(frozen=True, slots=True)
class Situation:
    """``context`` is what nodes see as ``runtime.context``; ``config`` is a RunnableConfig, for factories, too."""

    context: Any = None
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def configurable(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.config.get("configurable") or {}
        return found


NOTHING: Final = Situation()


def situation(context: str | None, config: str | None, configurable: Mapping[str, Any]) -> Situation:
    """Of the command line's words: JSON or ``@FILE.json`` each. Raises RejouleError for what is neither."""
    found = {} if config is None else _json(config, "--config")
    return Situation(None if context is None else _json(context, "--context"), checked(found, configurable))


def checked(config: Any, configurable: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A RunnableConfig with further ``configurable`` keys. Raises RejouleError for what is none."""
    if not isinstance(config, Mapping) or not isinstance(config.get("configurable") or {}, Mapping):
        raise RejouleError(
            "the config is no RunnableConfig", 'write an object, as in --config \'{"configurable": {"user": "Ada"}}\''
        )
    if not configurable:
        return dict(config)
    return {**config, "configurable": {**(config.get("configurable") or {}), **configurable}}


def text_of(word: str, forms: str, suffixes: Sequence[str] = ()) -> str:
    """A word of the command line, or what stands in the file that it names by ``@`` or a suffix."""
    if not word.startswith("@") and not word.endswith(tuple(suffixes)):
        return word
    path = Path(word.removeprefix("@"))
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RejouleError(f"cannot read {path}: {error}", f"give {forms}") from error


def _json(word: str, option: str) -> Any:
    try:
        return orjson.loads(text_of(word, "JSON, or @FILE.json"))
    except orjson.JSONDecodeError as error:
        raise RejouleError(f"{option} is no JSON: {error}", f"write {option} JSON, or {option} @FILE.json") from error
