"""Whatever a stored file was turned into, reading it ends in a sound value or in a RejouleError."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rejoule
from rejoule.replay.cli.experiment_file import read as read_experiment_file
from rejoule.replay.energy.samples import header, read_samples
from rejoule.replay.knobs.journal import Found
from rejoule.replay.knobs.journal import read as read_journal
from rejoule.replay.knobs.journal import write as write_journal
from rejoule.replay.sim.profile import FOLDER, load_profile
from rejoule.traces.errors import RejouleError
from rejoule.traces.formats.mooncake import workflows
from rejoule.traces.runs import load_runs
from rejoule.traces.store import load, save
from rejoule.traces.testing import random_trace

TOML = b'traces = ["t.jsonl"]\ntrials = 2\n[configuration]\nengine = "sim"\n[sweep]\nmax_num_seqs = [1, 8]\n'
MOONCAKE = b'{"timestamp": 5, "input_length": 600, "output_length": 20, "hash_ids": [1, 2]}\n' * 3


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one of everything that is stored."""
    folder = tmp_path_factory.mktemp("sound")
    trace = random_trace(3, workflows=2, vertices=5)
    save(trace, folder / "t.jsonl")
    save(trace, folder / "t.jsonl.zst")
    rejoule.replay_traces({"t": trace}, folder / "runs", progress=False)
    shutil.copy(FOLDER / "h200-llama-3.1-8b.json", folder / "p.json")
    (folder / "e.toml").write_bytes(TOML)
    (folder / "m.jsonl").write_bytes(MOONCAKE)
    (folder / "g.samples").write_bytes(header([("GPU-0", "H200", 0.1)], "580", 10**8, 1, 5, 6) + bytes(400))
    write_journal(folder, Found("GPU-0", limit_w=600.0))
    return folder


def runs_file(name: str) -> Callable[[Path], Path]:
    return lambda folder: next((folder / "runs").rglob(name))


FORMATS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], object]]] = {
    "trace": (lambda folder: folder / "t.jsonl", lambda folder: load(folder / "t.jsonl")),
    "salvaged trace": (lambda folder: folder / "t.jsonl", lambda folder: load(folder / "t.jsonl", salvage=True)),
    "compressed trace": (lambda folder: folder / "t.jsonl.zst", lambda folder: load(folder / "t.jsonl.zst")),
    "experiment.json": (runs_file("experiment.json"), lambda folder: load_runs(folder / "runs")),
    "run.json": (runs_file("run.json"), lambda folder: load_runs(folder / "runs")),
    "steps": (runs_file("steps.jsonl.zst"), lambda folder: load_runs(folder / "runs")),
    "profile": (lambda folder: folder / "p.json", lambda folder: load_profile(str(folder / "p.json"))),
    "experiment file": (lambda folder: folder / "e.toml", lambda folder: read_experiment_file(folder / "e.toml")),
    "samples": (lambda folder: folder / "g.samples", lambda folder: read_samples(folder / "g.samples")),
    "journal": (lambda folder: folder / "GPU-0.json", lambda folder: read_journal(folder, "GPU-0")),
    "mooncake": (lambda folder: folder / "m.jsonl", lambda folder: list(workflows(folder / "m.jsonl"))),
}
NONSENSE = [
    b"\xff",
    b"\x00",
    b"null",
    b"-1",
    b"1e308",
    b"[" * 3000,
    b'"',
    b"{}",
    b"99999999999999999999999",
    b"NaN",
    b"",
]


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(source=st.randoms(use_true_random=False), data=st.data())
def test_spoilt_bytes_end_in_a_value_or_an_error(name: str, sound: Path, source: object, data: st.DataObject) -> None:
    """Bytes put in, taken out or turned over, packed again where the file is packed."""
    where, reading = FORMATS[name]
    path = where(sound)
    whole = path.read_bytes()
    packed = path.suffix == ".zst" and data.draw(st.booleans())
    body = zstandard.ZstdDecompressor().decompressobj().decompress(whole) if packed else whole
    begin = data.draw(st.integers(0, len(body)))
    length = data.draw(st.sampled_from([0, 0, 1, 1, 2, 20]))
    spoilt = body[:begin] + data.draw(st.sampled_from(NONSENSE)) + body[begin + length :]
    path.write_bytes(zstandard.ZstdCompressor().compress(spoilt) if packed else spoilt)
    try:
        reading(sound)
    except RejouleError:
        pass
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("row", [[1], [0, 1, 1], "x", [0, "x"], [0, 1, 1, None, None, None, [[999, 1, 0]], [], []]])
def test_rows_of_steps_are_checked(row: object, sound: Path, tmp_path: Path) -> None:
    """A row with a column too few, of another type, or naming a call that is not there, is refused by its line."""
    shutil.copytree(sound / "runs", tmp_path / "runs")
    file = next((tmp_path / "runs").rglob("steps.jsonl.zst"))
    rows = zstandard.ZstdDecompressor().decompressobj().decompress(file.read_bytes()).splitlines()
    file.write_bytes(zstandard.ZstdCompressor().compress(b"\n".join([rows[0], orjson.dumps(row), *rows[2:]])))
    with pytest.raises(RejouleError, match=r"line 2|does not have"):
        load_runs(tmp_path / "runs")


def test_a_small_file_cannot_fill_the_memory(tmp_path: Path) -> None:
    """A compressed file that unpacks to gigabytes in one line is refused after a part of them."""
    head, *_ = save_lines(tmp_path)
    packer = zstandard.ZstdCompressor(level=19).compressobj()
    bomb = packer.compress(head) + b"".join(packer.compress(bytes(1 << 24)) for _ in range(24)) + packer.flush()
    (tmp_path / "b.jsonl.zst").write_bytes(bomb)
    with pytest.raises(RejouleError, match="a line of more than 256 MiB"):
        load(tmp_path / "b.jsonl.zst")


def test_salvage_survives_one_bad_byte(tmp_path: Path) -> None:
    """What was complete before a byte that is no UTF-8 is read."""
    lines = save_lines(tmp_path)
    closed = next(i for i, line in enumerate(lines) if b'"record":"workflow"' in line)
    lines[closed + 1] = lines[closed + 1].replace(b'"id":"', b'"id":"\xff', 1)
    (tmp_path / "t.jsonl").write_bytes(b"".join(lines))
    assert len(load(tmp_path / "t.jsonl", salvage=True).workflows) == 1
    with pytest.raises(RejouleError, match=f"line {closed + 2}: not JSON in UTF-8"):
        load(tmp_path / "t.jsonl")


def save_lines(folder: Path) -> list[bytes]:
    save(random_trace(3, workflows=2, vertices=5), folder / "t.jsonl")
    return (folder / "t.jsonl").read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("timing", "compute_efficiency", 82.7),
        ("timing", "memory_efficiency", 900),
        ("model", "kv_heads", 304),
        ("power", "cap_peak", 0.03),
        ("serving", "graph_sizes", [8, 1]),
        ("gpu", "min_clock_mhz", 3000),
    ],
)
def test_nonsense_in_a_profile_is_refused(part: str, name: str, value: object, sound: Path, tmp_path: Path) -> None:
    """Shares above 1, more key heads than heads, sizes out of order: no joules come of them."""
    body = orjson.loads((sound / "p.json").read_bytes())
    body[part][name] = value
    (tmp_path / "p.json").write_bytes(orjson.dumps(body))
    with pytest.raises(RejouleError, match=name.partition("_")[0]):
        load_profile(str(tmp_path / "p.json"))
