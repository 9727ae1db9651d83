"""What a run ran on, by content: profiles, models and servers keep their names when they become others.

Within a run folder one name stands for one thing. A run states, in ``engine``, what it ran on; a run that would add
another thing under the same name is refused before it begins, and a folder that holds such runs is not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from rejoule.traces.engine_options import GPUS
from rejoule.traces.errors import RejouleError
from rejoule.traces.run import OPTION, Configuration, Run, configuration_key, knobs

STATED: Final[Mapping[str, str]] = {
    "profile": "its profile",
    "profile_digest": "its profile's content",
    "model": "its model",
    "id": "its model",
    "models": "its models",
    "root": "where its model comes from",
    "owned_by": "its kind",
    "version": "its version",
    "max_model_len": "its longest context",
    "dtype": "its type of numbers",
    "max_num_seqs": "its batch size",
    "max_num_batched_tokens": "its tokens a step",
    "block_size": "its block size",
    "prefix_caching": "whether it caches prefixes",
    "scheduling_policy": "its scheduling policy",
    "tensor_parallel_size": "its tensor parallelism",
    "pipeline_parallel_size": "its pipeline parallelism",
    "data_parallel_size": "its data parallelism",
    "policy_code": "its policy's code",
}
"""What of ``Run.engine`` says what answered; the rest says how the run went, or differs at every start."""
FOLLOWS: Final[Mapping[str, tuple[str, ...]]] = {
    "profile": ("profile", "profile_digest"),
    "model": ("model", "id", "root", "max_model_len", "dtype"),
    "python": ("version",),
    "policy": ("policy_code", "scheduling_policy"),
    GPUS: ("profile", "profile_digest", GPUS),
}
"""What differs with a knob that was set; of others, what is called as they are."""
SIM: Final = ("profile", "profile_digest", "policy_code")
"""The same of a simulated run, in which all else follows from the configuration."""


def name_of(configuration: Configuration) -> str:
    """What a configuration calls the thing that it runs on: a profile, a server's URL, or what vLLM is started with;
    and its policy."""
    c = configuration
    if c.engine == "sim":
        gpus = c.options.get(GPUS)
        name = f"profile {c.profile or 'of the simulated engine'}" + ("" if gpus is None else f" on {gpus} GPUs")
    elif c.engine == "vllm":
        name = configuration_key(Configuration(engine=c.engine, max_num_seqs=c.max_num_seqs, options=c.options))
    else:
        name = c.engine
    return name if c.policy is None else f"{name}, policy {c.policy}"


def stated(configuration: Configuration, engine: Mapping[str, Any]) -> dict[str, Any]:
    """What an engine says of itself, as far as another run must find the same."""
    return {key: engine[key] for key in (SIM if configuration.engine == "sim" else STATED) if key in engine}


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """What is stated twice, and differs: ``its model: one, then two``. What only one of them states is not known."""
    found = (
        f"{STATED[key]}: {_word(before[key])}, then {_word(after[key])}"
        for key in STATED
        if key in before and key in after and before[key] != after[key]
    )
    return tuple(dict.fromkeys(found))


def contrasts(a: Run, b: Run) -> tuple[str, ...]:
    """What two runs that are compared ran on, where it differs by more than the knobs that were set."""
    of_a, of_b = knobs(a.configuration), knobs(b.configuration)
    chosen = {name.removeprefix(OPTION) for name in of_a | of_b if of_a.get(name) != of_b.get(name)}
    follow = {name for knob in chosen for name in FOLLOWS.get(knob, (knob,))}
    of_a, of_b = ({k: v for k, v in stated(r.configuration, r.engine).items() if k not in follow} for r in (a, b))
    return changes(of_a, of_b)


_DIGEST: Final = re.compile("[0-9a-f]{64}")


class Known:
    """What the names of a run folder stand for, as its runs say."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[str, dict[str, Any]]] = {}

    def knows(self, configuration: Configuration) -> bool:
        return name_of(configuration) in self._found

    def learn(self, run: str, configuration: Configuration, engine: Mapping[str, Any]) -> tuple[str, str] | None:
        """Takes what a run says; an earlier run that says otherwise, and what changed since."""
        name, now = name_of(configuration), stated(configuration, engine)
        first, before = self._found.setdefault(name, (run, now))
        if found := changes(before, now):
            return first, "; ".join(found)
        self._found[name] = (first, {**now, **before})
        return None


def check_one_thing(runs: Iterable[Run], folder: object) -> None:
    """Raises RejouleError for runs of one folder in which one name stands for two things."""
    known = Known()
    for run in runs:
        if (other := known.learn(run.id, run.configuration, run.engine)) is not None:
            first, what = other
            raise RejouleError(
                f"{folder} holds runs on two things of one name: from {first} to {run.id}, {what}",
                f"remove the runs on one of them from {folder}/runs, and replay for the other in a folder of its own",
            )


def drifts(runs: Iterable[Run]) -> tuple[str, ...]:
    """What else is not the same in these runs and may be in their figures, or is not known of all."""
    known = list(runs)
    told = {
        "ReJoule's version": [run.engine.get("rejoule") for run in known],
        "the GPUs' driver": [None if run.conditions is None else run.conditions.driver for run in known],
        **{f"the content of profile {name}": digests for name, digests in _contents(known).items()},
    }
    return tuple(_drift(what, values) for what, values in told.items() if len(set(values)) > 1)


def _contents(runs: Iterable[Run]) -> dict[str, list[Any]]:
    """What the profiles of runs hold, by name: two profiles are no change of one."""
    found: dict[str, list[Any]] = {}
    for run in runs:
        if "profile" in run.engine:
            found.setdefault(str(run.engine["profile"]), []).append(run.engine.get("profile_digest"))
    return found


def _drift(what: str, values: list[Any]) -> str:
    words = ", ".join(dict.fromkeys(_word(value) for value in values if value is not None))
    unknown = sum(value is None for value in values)
    return f"{what} is {words}" + (f", and not known of {unknown} of {len(values)}" if unknown else "")


def _word(value: Any) -> str:
    if value is None:
        return "not said"
    text = str(value)
    return text[:12] if _DIGEST.fullmatch(text) else text
