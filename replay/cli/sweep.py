"""``--sweep KEY=V1,V2``: any knob, or any option of the engine, at several values."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Any, Final

import orjson

from rejoule.traces import RejouleError
from rejoule.traces.run import OPTION, Configuration

SPELT: Final = {"power_cap": "power_cap_w", "sm_clock": "sm_clock_mhz", "edges": "edge_set", "policies": "policy"}
"""Knobs by what their own options on the command line are called, where that is not their name."""
KNOBS: Final = frozenset(f.name for f in fields(Configuration)) - {"options"}
NOT_SWEPT: Final = ("options", "trials", "salvage", "output", "folder", "figures", "json")
_DEFAULT: Final = {"default": None}
_NONE: Final = _DEFAULT | {"none": None}


def sweeps(words: Sequence[str], given: Collection[str]) -> dict[str, list[Any]]:
    """``KEY=V1,V2`` words as values by knob; an option of the engine is ``options.KEY``.

    Values are JSON, or else text; ``default`` is the engine's own, as is ``none`` for a knob. ``given`` names the
    knobs that have values by their own options. Raises RejouleError for a key that is swept or given twice.
    """
    found: dict[str, list[Any]] = {}
    for word in words:
        key, equals, text = (part.strip() for part in word.partition("="))
        name = knob_name(key)
        if not equals or not key or not text:
            raise RejouleError(f"--sweep {word!r} is not KEY=V1,V2", "as in --sweep enforce_eager=false,true")
        if name.removeprefix(OPTION) in NOT_SWEPT:
            raise RejouleError(f"{key} cannot be swept", "sweep a knob or an option of the engine by its name")
        if name in found:
            raise RejouleError(f"{key} is swept twice", "give all of its values in one --sweep")
        if name in given:
            raise RejouleError(f"{key} is given by an option of its own and by --sweep", "leave one of them out")
        found[name] = _values(text, _DEFAULT if name.startswith(OPTION) else _NONE)
    return found


def knob_name(key: str) -> str:
    """What ``Configuration`` calls it: a knob as it is, also as the command line spells it, or ``options.KEY``."""
    name = key.lstrip("-").replace("-", "_")
    name = SPELT.get(name, name)
    return name if name in KNOBS or name.startswith(OPTION) else f"{OPTION}{name}"


def _values(text: str, spelt: dict[str, None]) -> list[Any]:
    try:
        return list(orjson.loads(f"[{text}]"))
    except orjson.JSONDecodeError:
        return [_value(word.strip(), spelt) for word in text.split(",")]


def _value(word: str, spelt: dict[str, None]) -> Any:
    if word in spelt:
        return spelt[word]
    try:
        return orjson.loads(word)
    except orjson.JSONDecodeError:
        return word
