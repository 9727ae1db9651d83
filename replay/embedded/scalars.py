"""Seeded numbers and strings that obey a JSON schema."""

from __future__ import annotations

import math
import random
import re
import warnings
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from rejoule.replay.embedded.prose import Prose
from rejoule.replay.embedded.pycode import python_module

with warnings.catch_warnings():
    # rstr imports a module that newer Pythons call by another name.
    warnings.simplefilter("ignore", DeprecationWarning)
    import rstr

Schema = Mapping[str, Any]


class SchemaError(ValueError):
    """A schema or pattern that cannot be obeyed."""


def is_a(value: object, kind: str) -> bool:
    """Whether ``value`` is of the JSON type ``kind``."""
    match kind:
        case "null":
            return value is None
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return not isinstance(value, bool) and (
                isinstance(value, int) or (isinstance(value, float) and value % 1 == 0)
            )
        case "number":
            return not isinstance(value, bool) and isinstance(value, int | float)
        case "string":
            return isinstance(value, str)
        case "array":
            return isinstance(value, list)
    return isinstance(value, dict)


class _Picker(random.Random):
    """Draws for rstr: from sorted characters, since it offers sets, and at most ``spread`` more repeats than due."""

    def __init__(self, rng: random.Random, spread: int) -> None:
        super().__init__(rng.getrandbits(64))
        self._spread = spread

    def choice(self, seq: Any) -> Any:
        return super().choice(sorted(seq) if isinstance(seq[0], str) else seq)

    def randint(self, a: int, b: int) -> int:
        return super().randint(a, min(b, a + self._spread))


def from_pattern(rng: random.Random, pattern: str, whole: bool = False, spread: int = 12) -> str:
    """A string in which ``pattern`` is found, or with ``whole`` one that is nothing else."""
    try:
        text = str(rstr.Rstr(_Picker(rng, spread)).xeger(pattern))
    except (re.error, KeyError, IndexError, ValueError, TypeError, RecursionError, OverflowError) as error:
        raise SchemaError(f"regex {pattern!r} is not supported: {error}") from error
    if (re.fullmatch if whole else re.search)(pattern, text) is None:
        raise SchemaError(f"regex {pattern!r} is not supported")
    return text


def integer(rng: random.Random, schema: Schema) -> int:
    """An integer within a schema's bounds, ten wide where it has none."""
    low, high = _bounds(schema)
    step = Fraction(str(schema.get("multipleOf", 1))).numerator
    least = None if low is None else math.ceil(low)
    if least is not None and low == least and _excludes(schema, "Minimum", low):
        least += 1
    most = None if high is None else math.floor(high)
    if most is not None and high == most and _excludes(schema, "Maximum", high):
        most -= 1
    if least is None:
        least = 0 if most is None or most >= 0 else most - 10 * step
    if most is None:
        most = least + 10 * step
    first, last = -(-least // step), most // step
    if first > last:
        raise SchemaError("no integer lies within the bounds")
    return int(rng.randint(first, last) * step)


def number(rng: random.Random, schema: Schema) -> float:
    """A number within a schema's bounds, ten wide where it has none."""
    low, high = _bounds(schema)
    step = schema.get("multipleOf")
    if step is not None:
        return _multiple(rng, schema, low, high, step)
    if low is None:
        low = 0.0 if high is None or high > 0 else high - 10.0
    if high is None:
        high = low + 10.0
    if low > high:
        raise SchemaError("no number lies within the bounds")
    places = max(2, 2 - math.floor(math.log10(high - low))) if high > low else 15
    value = round(rng.uniform(low, high), min(places, 300))
    inside = low <= value <= high and not (
        (value == low and _excludes(schema, "Minimum", low)) or (value == high and _excludes(schema, "Maximum", high))
    )
    return value if inside else low + (high - low) / 2


def _multiple(rng: random.Random, schema: Schema, low: float | None, high: float | None, step: float) -> float:
    first = 0 if low is None and (high is None or high >= 0) else None
    if first is None:
        first = math.ceil(low / step) if low is not None else math.floor((high or 0.0) / step) - 10
    last = math.floor(high / step) if high is not None else first + 10
    for count in rng.sample(range(first, last + 1), k=min(20, max(0, last - first + 1))):
        value = count * step
        if not (_excludes(schema, "Minimum", value) or _excludes(schema, "Maximum", value)):
            return value
    raise SchemaError("no multiple lies within the bounds")


def string(rng: random.Random, prose: Prose, schema: Schema, name: str, size: int) -> str:
    """A string of a schema's pattern, format, media type or lengths; else words or sentences after its name."""
    low, high = int(schema.get("minLength", 0)), schema.get("maxLength")
    if high is not None and high < low:
        raise SchemaError("minLength is above maxLength")
    if "pattern" in schema:
        for spread in range(0, 120, 2):
            text = from_pattern(rng, schema["pattern"], spread=spread)
            if low <= len(text) and (high is None or len(text) <= high):
                return text
        raise SchemaError("no string found that fits both the pattern and its lengths")
    if "format" in schema and schema["format"] in _FORMATS:
        return _FORMATS[schema["format"]](rng, prose)
    if schema.get("contentMediaType") == "text/x-python":
        text = python_module(rng, prose, 1 + size)
    else:
        text = _text(rng, prose, name, size)
    while len(text) < low:
        text += (" " if text else "") + prose.word()
    return text if high is None else text[: int(high)]


def _text(rng: random.Random, prose: Prose, name: str, size: int) -> str:
    """A sentence or more for what has a long name such as ``description``; else one to three words."""
    if size == 0:
        return prose.word()
    if not _LONG.search(name):
        return prose.words(rng.randint(1, 3))
    return " ".join(prose.sentence() for _ in range(rng.randint(1, 2 * size)))


_LONG = re.compile(
    r"(?i)summar|descri|text|content|answer|reason|explan|detail|analys|comment|feedback|note|rationale|body|message"
    r"|design|plan|spec|report|response|thought|review|overview|evidence|quote|instruct"
)


def _digits(rng: random.Random, count: int, base: str = "0123456789") -> str:
    return "".join(rng.choice(base) for _ in range(count))


def _date(rng: random.Random, prose: Prose) -> str:
    return f"{rng.randint(2000, 2030)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"


def _time(rng: random.Random, prose: Prose) -> str:
    return f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:{rng.randint(0, 59):02}Z"


_HEX = "0123456789abcdef"
_FORMATS: dict[str, Callable[[random.Random, Prose], str]] = {
    "date": _date,
    "time": _time,
    "date-time": lambda rng, prose: f"{_date(rng, prose)}T{_time(rng, prose)}",
    "email": lambda rng, prose: f"{prose.word()}@example.com",
    "uri": lambda rng, prose: f"https://example.com/{prose.word()}",
    "hostname": lambda rng, prose: f"{prose.word()}.example.com",
    "ipv4": lambda rng, prose: ".".join(str(rng.randint(1, 254)) for _ in range(4)),
    "uuid": lambda rng, prose: (
        f"{_digits(rng, 8, _HEX)}-{_digits(rng, 4, _HEX)}-4{_digits(rng, 3, _HEX)}-a{_digits(rng, 3, _HEX)}"
        f"-{_digits(rng, 12, _HEX)}"
    ),
}


def _bounds(schema: Schema) -> tuple[float | None, float | None]:
    """The least and the greatest number, whether or not they themselves belong."""
    lows = [schema[key] for key in ("minimum", "exclusiveMinimum") if is_a(schema.get(key), "number")]
    highs = [schema[key] for key in ("maximum", "exclusiveMaximum") if is_a(schema.get(key), "number")]
    return max(lows, default=None), min(highs, default=None)


def _excludes(schema: Schema, which: str, value: float) -> bool:
    """Whether a bound, ``Minimum`` or ``Maximum``, shuts out ``value``; draft 4 wrote exclusion as a boolean."""
    bound = schema.get(f"exclusive{which}")
    if bound is True:
        bound = schema.get(which.lower())
    if bound is None or bound is False:
        return False
    return bool(value <= bound if which == "Minimum" else value >= bound)
