"""What a profile knows of the links between GPUs: what it says itself is kept, the rest is its GPU's data sheet's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol

from msgspec import Struct
from msgspec.structs import fields, replace

from rejoule.replay.sim.profile import Gpu, PowerCurve, Timing

LINKS: Final = (
    "all_reduce_s",
    "all_reduce_efficiency",
    "two_shot_s",
    "two_shot_efficiency",
    "nccl_s",
    "nccl_efficiency",
    "host_workers_s",
    "host_all_reduce_s",
)
"""Times that one GPU alone shows nothing of."""
OF_LINKS: Final[tuple[tuple[str, str, type[Struct]], ...]] = (
    *((f"timing.{name}", name, Timing) for name in LINKS),
    ("power.link_w", "link_w", PowerCurve),
    ("gpu.link_bytes_per_s", "link_bytes_per_s", Gpu),
    ("gpu.link", "link", Gpu),
)
"""Each constant by its name in ``sources``, its field, and what it is a field of."""
GUESSED: Final = ("timing.all_reduce_s", 1e-5, "assumed: a one-shot all-reduce of a small message over NVLink")
"""What profiles of one GPU say that were calibrated before data sheets had links: nobody's own."""
ALONE: Final = "of one GPU: "
"""How the source of a constant begins that was fitted to one GPU by itself, and stays."""
_UNSAID: Final = {name: {field.name: field.default for field in fields(kind)}[own] for name, own, kind in OF_LINKS}


class Constants(Protocol):
    """A profile, or a file of a GPU."""

    @property
    def gpu(self) -> Gpu: ...
    @property
    def timing(self) -> Timing: ...
    @property
    def power(self) -> PowerCurve: ...
    @property
    def sources(self) -> dict[str, str]: ...


class Linked(NamedTuple):
    """Constants whose links are all told."""

    gpu: Gpu
    timing: Timing
    power: PowerCurve
    sources: dict[str, str]
    own: tuple[str, ...]
    """Constants of the links, by their names in ``sources``, that are not the data sheet's."""

    @property
    def parts(self) -> dict[str, Any]:
        """What to replace of whose links they are."""
        return {"gpu": self.gpu, "timing": self.timing, "power": self.power, "sources": self.sources}


def linked(held: Constants, sheet: Constants | None) -> Linked:
    """What ``held`` says of its links, and of the rest what the GPU's ``sheet`` does, if there is one."""
    said = {name: value for name, value in _values(held).items() if _said(held, name, value)}
    if sheet is None:
        return Linked(held.gpu, held.timing, held.power, held.sources, tuple(said))
    told = _values(sheet)
    sources = {name: sheet.sources[name] for name in told if name not in said and name in sheet.sources}
    parts = {
        kind: {field: said.get(name, told[name]) for name, field, of in OF_LINKS if of is kind}
        for kind in (Gpu, Timing, PowerCurve)
    }
    return Linked(
        replace(held.gpu, **parts[Gpu]),
        replace(held.timing, **parts[Timing]),
        replace(held.power, **parts[PowerCurve]),
        held.sources | sources,
        tuple(name for name, value in said.items() if value != told[name]),
    )


def of_one(sources: Mapping[str, str]) -> dict[str, str]:
    """What is said on several GPUs of constants that were fitted to one by itself; links were not."""
    exchanged = {name for name, *_ in OF_LINKS}
    return {
        name: f"{ALONE}{text}" if text.startswith("fitted") and name not in exchanged else text
        for name, text in sources.items()
    }


def _values(held: Constants) -> dict[str, object]:
    parts = {Timing: held.timing, PowerCurve: held.power, Gpu: held.gpu}
    return {name: getattr(parts[kind], field) for name, field, kind in OF_LINKS}


def _said(held: Constants, name: str, value: object) -> bool:
    """Whether a constant is more than a default that nobody gave a source for, or a guess that ships."""
    source = held.sources.get(name)
    return (name, value, source) != GUESSED and (value != _UNSAID[name] or source is not None)
