"""The files of lines beside a run: the engine's steps, and the sensors' readings, a row each, compressed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import msgspec
import orjson
import zstandard

from rejoule.traces.decoding import DamagedError, decoded, lines_of
from rejoule.traces.run import Reading, Run, Step

T = TypeVar("T")

STEPS: Final = "steps.jsonl.zst"
READINGS: Final = "readings.jsonl.zst"

Count = Annotated[int, msgspec.Meta(ge=0)]


class _StepRow(msgspec.Struct, array_like=True, frozen=True):
    """A line of ``steps.jsonl.zst``; calls are named by their place in the run."""

    start_s: float
    end_s: float
    steps: Count
    energy_j: float | None
    sm_clock_mhz: float | None
    cap_bound: bool | None
    prefill: tuple[tuple[int, Count, Count], ...]
    decode: tuple[tuple[int, Count], ...]
    preempted: tuple[int, ...]
    prefill_context: tuple[Count, ...] = ()
    decode_context: tuple[Count, ...] = ()
    makeup: tuple[float, ...] = ()


_STEP: Final = msgspec.json.Decoder(_StepRow).decode


class _ReadingRow(msgspec.Struct, array_like=True, frozen=True):
    """A line of ``readings.jsonl.zst``."""

    start_s: float
    end_s: float
    energy_j: float
    sm_clock_mhz: float | None
    memory_clock_mhz: float | None
    temperature_c: float | None
    hbm_w: float | None
    cap_bound: float | None
    throttled: float | None
    gpus_j: tuple[float, ...] = ()


_READING: Final = msgspec.json.Decoder(_ReadingRow).decode


def packed_rows(run: Run) -> dict[str, bytes]:
    """The files of lines that a run has, by name."""
    found = {}
    if run.steps is not None:
        found[STEPS] = _packed(_step_row(run), run.steps)
    if run.readings is not None:
        found[READINGS] = _packed(astuple, run.readings)
    return found


def with_rows(run: Run, folder: Path) -> Run:
    """The run with what its files of lines in ``folder`` hold. Raises DamagedError and OSError."""
    steps, readings = _rows(folder / STEPS, _STEP), _rows(folder / READINGS, _READING)
    return replace(
        run,
        steps=None if steps is None else _steps(steps, run),
        readings=None if readings is None else tuple(Reading(*msgspec.structs.astuple(row)) for row in readings),
    )


def _packed(row: Callable[[T], Any], items: Iterable[T]) -> bytes:
    lines = b"".join(orjson.dumps(row(item), option=orjson.OPT_APPEND_NEWLINE) for item in items)
    return zstandard.ZstdCompressor(level=6, write_checksum=True).compress(lines)


def _rows(file: Path, decode: Callable[[bytes], T]) -> list[T] | None:
    """The rows of a file of lines; ``None`` without one. Raises DamagedError."""
    if not file.exists():
        return None
    rows: list[T] = []
    try:
        with file.open("rb") as packed:
            for line in lines_of(packed, compressed=True):
                rows.append(decoded(line, decode))  # noqa: PERF401  # an error names its line
    except DamagedError as error:
        raise DamagedError(f"{file.name}, line {len(rows) + 1}: {error}") from None
    return rows


def _step_row(run: Run) -> Callable[[Step], Sequence[Any]]:
    # Calls are named by their place in the run: a step names each call of its batch, which is most of the file.
    place = {call.id: i for i, call in enumerate(run.calls)}

    def row(step: Step) -> Sequence[Any]:
        return (
            step.start_s,
            step.end_s,
            step.steps,
            step.energy_j,
            step.sm_clock_mhz,
            step.cap_bound,
            [(place[call], new, cached) for call, new, cached in step.prefill],
            [(place[call], tokens) for call, tokens in step.decode],
            [place[call] for call in step.preempted],
            step.prefill_context,
            step.decode_context,
            step.makeup,
        )

    return row


def _steps(rows: Sequence[_StepRow], run: Run) -> tuple[Step, ...]:
    names = [call.id for call in run.calls]

    def step(row: _StepRow) -> Step:
        prefill, decode, preempted = row.prefill, row.decode, row.preempted
        if any(not 0 <= i < len(names) for i in (*(p[0] for p in prefill), *(d[0] for d in decode), *preempted)):
            raise DamagedError("a step names a call that the run does not have")
        return Step(
            start_s=row.start_s,
            end_s=row.end_s,
            steps=row.steps,
            energy_j=row.energy_j,
            sm_clock_mhz=row.sm_clock_mhz,
            cap_bound=row.cap_bound,
            prefill=tuple((names[i], new, cached) for i, new, cached in prefill),
            decode=tuple((names[i], tokens) for i, tokens in decode),
            preempted=tuple(names[i] for i in preempted),
            prefill_context=row.prefill_context,
            decode_context=row.decode_context,
            makeup=row.makeup,
        )

    return tuple(map(step, rows))
