"""How configurations are told apart, in few words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from rejoule.traces.engine_options import SAID, option_words
from rejoule.traces.run import OPTION, Configuration, Run, knobs
from rejoule.traces.run_options import of_the_run
from rejoule.traces.summary import policy_word


def label(knob: str) -> str:
    """A knob's name as people say it."""
    name = knob.removeprefix("policy_options.").removeprefix(OPTION)
    return _LABELS.get(knob) or SAID.get(name) or name.replace("_", " ")


_LABELS: Final = {
    "max_num_seqs": "batch size",
    "power_cap_w": "power cap",
    "sm_clock_mhz": "SM clock",
    "edge_set": "edges",
}


def varying(configurations: Iterable[Configuration]) -> tuple[str, ...]:
    """Names of the knobs that are not the same in all of them."""
    settings = [knobs(c) for c in configurations]
    names = dict.fromkeys(name for found in settings for name in found)
    return tuple(n for n in names if any(found.get(n) != settings[0].get(n) for found in settings))


def turned(configurations: Iterable[Configuration]) -> tuple[str, ...]:
    """The same without what says how runs were measured: knobs whose values a comparison may be about."""
    return tuple(name for name in varying(configurations) if not of_the_run(name))


def measured_apart(configurations: Iterable[Configuration]) -> tuple[str, ...]:
    """What must be said of trials that were not all measured in one way."""
    names = [label(name) for name in varying(configurations) if of_the_run(name)]
    return (f"measured with more than one {', '.join(names)}, and taken for trials of one thing",) if names else ()


def describe(configuration: Configuration, names: Sequence[str]) -> str:
    """The named knobs in words: ``batch 64, 300 W cap``."""
    found = knobs(configuration)
    options = {name.removeprefix(OPTION): found.get(name) for name in names if name.startswith(OPTION)}
    as_started = is_foreign(configuration) and all(value is None for value in options.values())
    told = (AS_STARTED,) if options and as_started else option_words(options)

    def word(name: str) -> str:
        value = found.get(name)
        if value is None and name in _SERVER and is_foreign(configuration):
            return AS_STARTED
        if value is None and name == "power_cap_w" and configuration.engine != "sim":
            return "cap not set"
        if name in ("policy", "policy_knows"):
            return policy_word(configuration)
        if value is None and name.startswith("policy_options."):
            return ""
        return _knob(name, value)

    plain = map(word, (name for name in names if not name.startswith(OPTION)))
    return ", ".join(filter(None, dict.fromkeys((*plain, *told))))


def several(labels: Sequence[str], most: int = 3, between: str = " | ") -> str:
    """Configurations by name, and how many more there are."""
    rest = len(labels) - most
    return between.join(labels[:most]) + (f" and {rest} more" if rest > 0 else "")


def set_apart(configuration: Configuration) -> tuple[str, ...]:
    """Knobs that are named wherever they are set, whether or not they vary: who schedules, and in waves or not."""
    usual = Configuration()
    return tuple(n for n in ("policy", "batching") if getattr(configuration, n) != getattr(usual, n))


def is_foreign(configuration: Configuration) -> bool:
    """Whether somebody else started the server, so that its own settings are not known to be defaults."""
    return configuration.engine not in ("sim", "vllm")


AS_STARTED: Final = "as the server was started"
_SERVER: Final = ("max_num_seqs", "power_cap_w", "sm_clock_mhz")


def _knob(name: str, value: Any) -> str:
    # Short, but never so short that two values look alike.
    short = isinstance(value, float) and float(f"{value:g}") == value
    number = f"{value:g}" if short else str(value)
    match name:
        case "max_num_seqs":
            return "default batch" if value is None else f"batch {number}"
        case "power_cap_w":
            return "no cap" if value is None else f"{number} W cap"
        case "sm_clock_mhz":
            return "free clock" if value is None else f"{number} MHz"
        case "input_scale" | "output_scale" | "time_scale":
            return f"{name.removesuffix('_scale')} ×{number}"
        case "concurrency":
            return "any concurrency" if value is None else f"concurrency {number}"
        case "engine" | "profile":
            return f"{value}"
        case "batching":
            return f"{value} batching"
        case "edge_set" | "arrivals":
            return f"{value} {'edges' if name == 'edge_set' else name}"
        case _:
            return f"{name.removeprefix('policy_options.')}={value}"


def source_label(runs: Iterable[Run]) -> str:
    """Where the joules of these runs came from: ``modelled (model:h200)``, ``measured (nvml-counter)``, or neither.

    Several are named in the order of the runs.
    """
    found = dict.fromkeys((run.measured, run.energy.source["gpu"]) for run in runs if "gpu" in run.energy.source)
    words = (f"{'measured' if measured else 'modelled'} ({source})" for measured, source in found)
    return " and ".join(words) or "energy not measured"
