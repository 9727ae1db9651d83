"""Whatever a stored file was turned into, reading it ends in what was written or in a RejouleError that names it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import orjson
import pytest
import zstandard
from benchmarks.spoilt.damage import another_digit, spoilt
from benchmarks.spoilt.kinds import KINDS, Kind, lay_out
from click.testing import CliRunner

import rejoule
from rejoule.replay.sim.shipped import load_profile
from rejoule.traces.commands import inspect
from rejoule.traces.errors import RejouleError, RejouleWarning
from rejoule.traces.runs import load_run, load_runs
from rejoule.traces.store import load, save
from rejoule.traces.testing import random_trace


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one of everything that is stored."""
    folder = tmp_path_factory.mktemp("sound")
    lay_out(folder)
    return folder


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_damage_changes_nothing_or_is_refused_by_name(kind: Kind, sound: Path) -> None:
    """What ReJoule wrote is read as it was, or an error names the file; what people write is read, or refused."""
    path = kind.file(sound)
    whole, wanted = path.read_bytes(), kind.read(sound)
    source = Random(kind.name)
    for _ in range(150):
        path.write_bytes(spoilt(whole, source, compressed=path.suffix == ".zst"))
        try:
            found = kind.read(sound)
            assert not kind.sealed or kind.same(found, wanted)
        except RejouleError as error:
            assert not kind.sealed or path.name in str(error)
        finally:
            path.write_bytes(whole)


def test_salvage_takes_nothing_that_was_changed(sound: Path) -> None:
    """Of a trace with one other digit, the workflows that were closed before it are read, as they were written."""
    path = sound / "t.jsonl"
    whole, wanted = path.read_bytes(), load(path).workflows
    source = Random(0)
    found = []
    for _ in range(150):
        path.write_bytes(another_digit(whole, source))
        try:
            found.append(load(path, salvage=True).workflows)
        except RejouleError as error:
            assert "no workflow in it is complete" in str(error) or "format version" in str(error)
        finally:
            path.write_bytes(whole)
    assert all(w in wanted for workflows in found for w in workflows)
    assert min(map(len, found)) == 1


def test_a_trace_changed_by_hand_is_taken_and_told(sound: Path, tmp_path: Path) -> None:
    """One of another size is read as it is now, with a warning; in a run folder it is not what was replayed."""
    assert not load(sound / "t.jsonl").edited
    body = (sound / "t.jsonl").read_text().replace('"node":"', '"node":"my ')
    (tmp_path / "t.jsonl").write_text(body)
    assert load(tmp_path / "t.jsonl").edited
    with pytest.warns(RejouleWarning, match="changed by hand"):
        assert all(node.startswith("my ") for node in rejoule.open_trace(tmp_path / "t.jsonl").nodes)
    said = CliRunner().invoke(inspect, [str(tmp_path / "t.jsonl"), "--json"])
    assert orjson.loads(said.stdout)["edited"] is True
    shutil.copytree(sound / "runs", tmp_path / "runs")
    (tmp_path / "runs/traces/t.jsonl.zst").write_bytes(zstandard.ZstdCompressor().compress(body.encode()))
    with pytest.raises(RejouleError, match="is not the trace that was replayed"):
        load_runs(tmp_path / "runs")


def test_a_trace_of_the_same_size_is_taken_without_its_digests(sound: Path, tmp_path: Path) -> None:
    """The error says so, and nothing else is lost with them."""
    body = (sound / "t.jsonl").read_text().replace('"node":"c', '"node":"m')
    (tmp_path / "t.jsonl").write_text(body)
    with pytest.raises(RejouleError, match="if you changed it yourself, remove the digests"):
        load(tmp_path / "t.jsonl")
    (tmp_path / "t.jsonl").write_text(re.sub(',"digest":"[0-9a-f]+"', "", body))
    assert all(node.startswith("m") for node in load(tmp_path / "t.jsonl").nodes)


@pytest.mark.parametrize("row", [[1], [0, 1, 1], "x", [0, "x"], [0, 1, 1, None, None, None, [[999, 1, 0]], [], []]])
def test_rows_of_steps_are_checked(row: object) -> None:
    """In a file from before there were digests, a row with a column too few, of another type, or naming a call that is
    not there is refused by its line."""
    old = Path(__file__).parent / "traces" / "stored" / "run-v2"
    with TemporaryDirectory() as name:
        shutil.copytree(old, Path(name, "runs"))
        file = next(Path(name).rglob("steps.jsonl.zst"))
        rows = zstandard.ZstdDecompressor().decompressobj().decompress(file.read_bytes()).splitlines()
        file.write_bytes(zstandard.ZstdCompressor().compress(b"\n".join([rows[0], orjson.dumps(row), *rows[2:]])))
        with pytest.raises(RejouleError, match=r"line 2|does not have"):
            load_run(Path(name, "runs"), "run")


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
