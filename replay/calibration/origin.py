"""Where a fitted profile comes from: which runs may be fitted, on what they ran, and the limits of their server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from msgspec.structs import replace

from rejoule.replay.sim.profile import Profile, Serving
from rejoule.replay.sim.tensor_parallel import on_gpus
from rejoule.traces import RejouleError
from rejoule.traces.engine_options import DEFAULTS, GPUS, option_word
from rejoule.traces.figures import told_tensor_parallel
from rejoule.traces.run import Run

USUAL: Final = ("enforce_eager", "async_scheduling")
"""Options that change what a step's constants mean: with one turned, a fit would be of another thing."""
SERVED: Final = ("block_size", "num_gpu_blocks", "max_num_seqs", "max_num_batched_tokens")


def on_their_gpus(base: Profile, runs: Sequence[Run]) -> Profile:
    """A ``base`` of one GPU on as many as all of the ``runs`` that tell it were on; any other as it is."""
    counts = {gpus for run in runs if (gpus := told_tensor_parallel(run)) is not None}
    return on_gpus(base, counts.pop()) if base.tensor_parallel == 1 and len(counts) == 1 else base


def untold_note(base: Profile, runs: Sequence[Run]) -> str | None:
    """That servers do not say on how many GPUs they ran; ``None`` if all do."""
    silent = [run.id for run in runs if told_tensor_parallel(run) is None]
    if not silent:
        return None
    return (
        f"{silent[0]} does not tell on how many GPUs its server ran: taken for {base.tensor_parallel}, as {base.name} "
        "is; if it is another number, give a --base of as many, as in --base h200-llama-3.1-8b-tp2"
    )


def check_measured(base: Profile, runs: Sequence[Run], *, timing_only: bool) -> None:
    """Raises RejouleError for runs of other hardware than ``base``, of an engine that works in another way, or whose
    joules, unless only times are fitted, should not be used."""
    for run in runs:
        check_served(base, run.configuration.options, told_tensor_parallel(run), run.id)
        reasons = () if timing_only or run.conditions is None else run.conditions.rejected
        if reasons:
            raise RejouleError(
                f"the joules of {run.id} are not those of the grid alone: {reasons[0]}",
                "then measure anew, into another folder; or fit --timing-only",
            )


def check_served(base: Profile, options: Mapping[str, object], gpus: int | None, name: str) -> None:
    """The same of what is known of a server before it is measured; ``gpus`` is ``None`` where that is not known."""
    if gpus is not None and gpus != base.tensor_parallel:
        raise RejouleError(
            f"{name} runs on {option_word(GPUS, gpus)}, the profile {base.name} is of {base.tensor_parallel}",
            "give runs on equal numbers of GPUs, and a --base of one GPU or of as many",
        )
    if turned := [option for option in USUAL if options.get(option) not in (None, DEFAULTS[option])]:
        words = " and ".join(option_word(option, options[option]) for option in turned)
        raise RejouleError(
            f"{name} runs with {words}: a profile's launch times are those of a server without that",
            f"fit runs that were served without {' and '.join(turned)}; what it costs is a constant of its own",
        )


def serving(held: Serving, runs: Sequence[Run]) -> Serving:
    """Limits as the server told them, where all runs agree."""
    told = {}
    for name in SERVED:
        values = {run.engine.get(name) for run in runs}
        if len(values) == 1 and isinstance(value := values.pop(), int) and value > 0:
            told[name] = value
    return replace(held, **told)


def measured_on(base: Profile, runs: Sequence[Run], timing_only: bool) -> dict[str, str]:
    """What a profile says of it in its ``provenance``; what is not known is left out.

    A card of which only times were fitted is not one whose watts it knows.
    """
    around = [run.conditions for run in runs if run.conditions is not None]
    engine = next((run.engine for run in runs if "version" in run.engine), {})

    def all_of(values: Iterable[str | None]) -> str:
        return ", ".join(dict.fromkeys(value for value in values if value))

    found = {
        "base": base.name,
        "fitted": datetime.now(UTC).date().isoformat(),
        "runs": ", ".join(run.id for run in runs),
        "gpus of the times" if timing_only else "gpus": all_of(gpu for c in around for gpu in c.gpus),
        "gpu names": all_of(name for c in around for name in c.gpu_names),
        "host": "; ".join(dict.fromkeys(c.host for c in around if c.host)),
        "driver": all_of(c.driver for c in around),
        "engine": " ".join(str(engine[k]) for k in ("engine", "version", "model", "dtype") if k in engine),
    }
    return {name: value for name, value in found.items() if value}
