"""What a reader must know of what was modelled, not measured: what a profile is worth that nobody fitted, engine
options, and caps and clock locks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from rejoule.traces.clock_curve import CARDS_DIFFER, curve_notes
from rejoule.traces.engine_options import DEFAULTS, GPUS, option_word
from rejoule.traces.run import Run
from rejoule.traces.words import in_percent

ALWAYS: Final = frozenset({"num_gpu_blocks"})
"""How many blocks there are is a size of the profile's own, not another way to run."""
LIMIT: Final = "concurrency"
"""A knob that was turned alone too, where a profile knows of it."""
FIT: Final = "rejoule calibrate fits it to your GPU"
SHOWN: Final = 12
"""Characters of a UUID, which tell cards apart."""
FIGURES: Final[Mapping[str, str]] = {
    "GPU energy": "joules",
    "workflow time": "workflow time",
    "time to first token, mean": "the time to the first token",
}
"""Of those whose errors are known, the ones that are said, and their words; ``--json`` has all."""


def modelled_notes(runs: Iterable[Run]) -> Iterator[str]:
    """All that stands against reading simulated runs' figures as measured ones, each said once."""
    runs = tuple(runs)
    yield from worth_notes(runs)
    yield from option_notes(runs)
    yield from curve_notes(runs)


def worth_notes(runs: Iterable[Run]) -> Iterator[str]:
    """What figures are worth of profiles fitted to no measurements, or on other models or cards: each said once."""
    simulated = {str(run.engine.get("profile")): run for run in runs if "calibrated" in run.engine}
    for profile, run in simulated.items():
        known = worth(run)
        if others := run.engine.get("fitted_to_others"):
            unknown = f", nor how far off its figures are; {FIT}" if known is None and not uncalibrated(run) else ""
            yield (
                f"fitted to other models ({profile}): to {others}; what is its own model's alone is not "
                f"measured{unknown}"
            )
        if known is not None and not uncalibrated(run):
            yield (
                f"{_put_together(profile, run)}; on {known['found_on']} such a profile was off by {_sizes(known)}: an "
                f"example, not a bound, as cards differ by up to {in_percent(CARDS_DIFFER)} in joules; {FIT}"
            )
        elif known is not None:
            yield (
                f"uncalibrated ({profile}): on {known['found_on']} such a profile was off by {_sizes(known)}; an "
                f"example, not a bound; {FIT}"
            )
        elif uncalibrated(run):
            yield f"uncalibrated ({profile}): how far off its figures are is not known; {FIT}"


def _put_together(profile: str, run: Run) -> str:
    """Of which models and cards the constants of a profile are that were fitted, and not to it alone."""
    together = run.engine.get("fitted_together")
    models = f" to {together}, its own model among them," if together else ""
    cards = ", ".join(gpu[:SHOWN] for gpu in (run.engine.get("measured_on") or {}).get("gpus", ()))
    return f"put together ({profile}): of constants fitted{models} on {cards or 'a card that it does not name'}"


def _sizes(known: Mapping[str, Any]) -> str:
    errors = {words: known["figures"][name] for name, words in FIGURES.items() if name in known["figures"]}
    return ", ".join(
        f"{in_percent(error['mean'])} in {words} (worst {in_percent(error['worst'])})"
        for words, error in errors.items()
    )


def worth(run: Run) -> Mapping[str, Any] | None:
    """What a modelled run's figures themselves are worth by an example: ``found_on`` which GPU and model, ``figures``,
    of each the ``mean`` and the ``worst`` error, relative; ``None`` where no example is known, or nobody asks."""
    told = run.engine.get("expected_error") or {}
    if not (told.get("found_on") and told.get("figures")):
        return None
    return {"found_on": told.get("figures_on") or told["found_on"], "figures": told["figures"]}


def uncalibrated(run: Run) -> bool:
    """Whether a run was simulated, in virtual time or by a server, with a profile that says that it was not fitted to
    measurements."""
    return run.engine.get("calibrated") is False


def is_modelled(run: Run) -> bool:
    """Whether its figures are a model's word: those of a server whose joules nobody measured are not."""
    return run.configuration.engine == "sim" or (run.energy.gpu_j is not None and not run.measured)


def option_notes(runs: Iterable[Run]) -> Iterator[str]:
    """Which options of simulated runs were never held against a measured run, or not together; each said once."""
    unknown: dict[str, None] = {}
    together: dict[str, None] = {}
    for run in runs:
        if run.configuration.engine == "sim":
            turned = turned_options(run.configuration.options)
            if run.engine.get("calibrated") and run.engine.get("gpus") == turned.get(GPUS):
                # A profile that was fitted to so many GPUs is of them.
                turned.pop(GPUS, None)
            words = {name: option_word(name, value) for name, value in turned.items()}
            held = [name for name, value in turned.items() if is_known(tested(run.engine, name), value)]
            unknown |= dict.fromkeys(word for name, word in words.items() if name not in held)
            alone = [words[name] for name in held]
            limit = run.configuration.concurrency
            if limit is not None and LIMIT in ((run.engine.get("expected_error") or {}).get("knobs") or ()):
                alone.append(f"{LIMIT} {limit}")
            if held and len(alone) > 1:
                together[" with ".join(alone)] = None
    if unknown:
        yield f"modelled, and never held against a measured run: {', '.join(unknown)}"
    if together:
        yield f"modelled, and held against measured runs one at a time, not together: {'; '.join(together)}"


def turned_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are not as they are by default."""
    names = (name for name in DEFAULTS if name in options and name not in ALWAYS)
    return {name: options[name] for name in names if options[name] not in (None, DEFAULTS[name])}


def tested(engine: Mapping[str, Any], option: str) -> Mapping[str, Any] | None:
    """What the profile that ``engine`` tells of knows of its predictions for an option; ``None`` is nothing."""
    found: Mapping[str, Any] | None = ((engine.get("expected_error") or {}).get("options") or {}).get(option)
    return found


def is_known(error: Mapping[str, Any] | None, value: Any) -> bool:
    """Whether a value of an option was measured, or is a number between those that were."""
    if error is None:
        return False
    sizes = [v for v in error["values"] if isinstance(v, int | float) and not isinstance(v, bool)]
    between = isinstance(value, int | float) and not isinstance(value, bool) and bool(sizes)
    return value in error["values"] or (between and min(sizes) <= value <= max(sizes))
