from __future__ import annotations

import csv
import gzip
import io
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import fsum
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import orjson
import pytest
from click.testing import CliRunner
from tests.analysis import builders

from rejoule.analysis.cli.export import FORMATS as OFFERED
from rejoule.analysis.cli.export import export
from rejoule.analysis.export.evidence_file import differences, read
from rejoule.analysis.export.exported import Exported, Source
from rejoule.analysis.export.formats import FORMATS, exported
from rejoule.analysis.export.markdown import plain
from rejoule.analysis.proof import schema
from rejoule.traces.errors import RejouleError
from rejoule.traces.model import Trace
from rejoule.traces.refused import Refused
from rejoule.traces.run import Conditions, Run
from rejoule.traces.runs import Experiment, PlannedRun, RunFolder, create, load_runs, save_run
from rejoule.traces.seal import sealed
from rejoule.traces.store import trace_digest

AGENTIC = builders.trace(3)
DOCS = Path(__file__).parents[3] / "docs"


def source(runs: Sequence[Run], refused: Sequence[Refused] = (), trace: Trace = AGENTIC) -> Source:
    planned = tuple(PlannedRun(r.id, r.trace, r.configuration, r.trial) for r in runs)
    experiment = Experiment({"agentic": "d"}, planned, 1, 0, "0.1.0")
    return Source(RunFolder(Path("runs"), experiment, tuple(runs), {"agentic": trace}), runs, refused)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    digest = trace_digest(AGENTIC)
    runs = [replace(run, trace_digest=digest) for run in builders.grid({"agentic": AGENTIC}, [1, 8], [None])]
    planned = tuple(PlannedRun(r.id, r.trace, r.configuration, r.trial) for r in runs)
    path = tmp_path / "runs"
    create(path, Experiment({"agentic": digest}, planned, 1, 0, "0.1.0"), {"agentic": AGENTIC})
    for run in runs:
        save_run(path, run)
    return path


def rows(made: Exported, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(made.files[name].decode())))


def trace_events(made: Exported) -> list[dict[str, Any]]:
    (packed,) = made.files.values()
    events: list[dict[str, Any]] = orjson.loads(gzip.decompress(packed))["traceEvents"]
    return events


def test_every_format_is_offered_and_says_whose_joules_it_has() -> None:
    """Of each format the command has, and what it leaves out is told with it."""
    assert set(OFFERED) == set(FORMATS)
    given = source([builders.run(AGENTIC)], [Refused("x", builders.run(AGENTIC).configuration, "no such cap")])
    for to in set(FORMATS) - {"evidence"}:
        made = exported(given, to)
        assert "energy: modelled (model:made-up)" in made.notes and "x: no such cap" in made.notes
        assert made.files and all(made.files.values())


def test_every_format_says_once_that_a_profile_was_not_fitted(folder: Path) -> None:
    """In what it says of itself, and in the file."""
    runs = [replace(r, engine={**r.engine, "profile": "made-up", "calibrated": False}) for r in load_runs(folder).runs]
    held = load_runs(folder)
    given = Source(replace(held, runs=tuple(runs)), runs, ())
    for to in FORMATS:
        made = exported(given, to)
        assert sum("uncalibrated (made-up)" in note for note in made.notes) == 1
        texts = [gzip.decompress(b) if name.endswith(".gz") else b for name, b in made.files.items()]
        if to in ("perfetto", "markdown", "csv", "evidence"):
            assert (
                sum(text.count(b"uncalibrated (made-up)") for text in texts)
                + sum(text.count(rb"uncalibrated \(made-up") for text in texts)
                == 1
            )
        if to == "svg":
            assert all(text.count(b"uncalibrated") == 1 for text in texts)
    assert {row["uncalibrated"] for row in rows(exported(given, "csv"), "runs.csv")} == {"true"}


def test_tables_add_up() -> None:
    """A row a call, node or step; the joules of nodes and what no call owes make up the run's; nothing known is 0."""
    run = builders.run(AGENTIC)
    made = exported(source([run]), "csv")
    assert len(rows(made, "calls.csv")) == len(run.calls) and len(rows(made, "steps.csv")) == len(run.steps or ())
    nodes = rows(made, "nodes.csv")
    assert fsum(float(row["energy_j"]) for row in nodes) == pytest.approx(run.energy.gpu_j, rel=1e-9)
    assert all(row["energy_source"] == "model:made-up" and row["energy_measured"] == "false" for row in nodes)
    assert rows(made, "runs.csv")[0]["cpu_j"] == ""


def test_text_is_never_a_formula() -> None:
    """A node that is called like a formula is text to a spreadsheet, and the notes say what was done."""
    made = exported(source([builders.run(builders.trace(1, "agentic", ("=1+1", "b")))]), "csv")
    assert {row["node"] for row in rows(made, "calls.csv")} == {"'=1+1", "b"}
    assert any("apostrophe" in note for note in made.notes)


def test_parquet_has_the_tables(tmp_path: Path) -> None:
    """As data frames read them, with types, and with whose joules they are in the metadata."""
    parquet = pytest.importorskip("pyarrow.parquet")
    run = builders.run(AGENTIC)
    made = exported(source([run]), "parquet")
    calls = parquet.read_table(io.BytesIO(made.files["calls.parquet"]))
    assert calls.num_rows == len(run.calls) and str(calls.schema.field("energy_j").type) == "double"
    assert b"model:made-up" in calls.schema.metadata[b"rejoule.notes"]


@pytest.mark.parametrize(("to", "module"), [("parquet", "pyarrow"), ("png", "resvg_py")])
def test_what_is_not_installed_is_named(to: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extra that brings it."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RejouleError, match=re.escape(f"rejoule[{to}]")):
        exported(source([builders.run(AGENTIC)]), to)


def test_the_power_counter_holds_the_energy() -> None:
    """Its integral over a run is the run's joules, and it says whether they were measured."""
    run = builders.run(AGENTIC)
    events = [e for e in trace_events(exported(source([run]), "perfetto")) if e["ph"] == "C" and "power" in e["name"]]
    joules = fsum(a["args"]["value"] * (b["ts"] - a["ts"]) / 1e6 for a, b in pairwise(events))
    assert joules == pytest.approx(run.energy.gpu_j, rel=1e-6)
    assert all("modelled: model:made-up" in e["name"] for e in events)


def test_a_trace_keeps_to_the_format() -> None:
    """Spans of a thread lie side by side or inside each other, every thread and process has a name, times are not
    negative, and there is one span for each call, tool call and busy step of each run."""
    runs = builders.grid({"agentic": AGENTIC}, [1, 8], [300.0])
    events = trace_events(exported(source(runs), "perfetto"))
    spans: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        assert event["ph"] in ("M", "X", "C")
        if event["ph"] == "X":
            assert event["ts"] >= 0.0 and event["dur"] >= 0.0
            spans[event["pid"], event["tid"]].append(event)
    named = {(e["pid"], e["tid"]) for e in events if e["name"] == "thread_name"}
    assert set(spans) <= named
    assert {e["pid"] for e in events} == {e["pid"] for e in events if e["name"] == "process_name"}
    for mine in spans.values():
        open_until: list[float] = []
        for span in sorted(mine, key=lambda e: (e["ts"], -e["dur"])):
            while open_until and open_until[-1] <= span["ts"] + 1e-6:
                open_until.pop()
            end = span["ts"] + span["dur"]
            assert not open_until or end <= open_until[-1] + 1e-6
            open_until.append(end)
    kinds = [e.get("cat") for e in events]
    assert kinds.count("call") == sum(len(r.calls) for r in runs)
    assert kinds.count("tool call") == sum(len(r.tools) for r in runs)
    assert kinds.count("engine step") == sum(not s.idle for r in runs for s in r.steps or ())


def test_pictures_are_files_of_their_own() -> None:
    """Well-formed, without a name of a colour left, with whose joules they are in them."""
    made = exported(source(builders.grid({"agentic": AGENTIC}, [1, 8], [300.0, None])), "svg")
    names = {name.removeprefix("agentic-").removesuffix(".svg") for name in made.files}
    assert {"energy-latency", "job-pareto", "energy", "latency", "nodes", "joules-by-node", "timeline"} == names
    for svg in made.files.values():
        ElementTree.fromstring(svg)
        assert b"var(--" not in svg and b"modelled (model:made-up)" in svg


def test_markdown_is_text() -> None:
    """Names do not become markup, rows or mentions, and every row of a table has as many cells as its head."""
    assert plain("a|b\n# <img> @you [x](http://y)") == r"a\|b \# \<img\> &#64;you \[x\](http:&#47;/y)"
    (text,) = exported(source(builders.grid({"agentic": AGENTIC}, [1, 8], [None])), "markdown").files.values()
    lines = [line for line in text.decode().splitlines() if line.startswith("|")]
    assert lines and all(line.count("|") in (5, 8) for line in lines)
    assert "modelled \\(" not in text.decode() and "modelled (model:made-up)" in text.decode()


def test_evidence_fits_its_schema(folder: Path) -> None:
    """The one in docs/, which is the one of the code."""
    kept = orjson.loads((DOCS / "evidence.schema.json").read_bytes())
    assert kept == schema()
    loaded = load_runs(folder)
    (body,) = exported(Source(loaded, loaded.runs, ()), "evidence").files.values()
    jsonschema.validate(orjson.loads(body), kept)


def test_evidence_names_no_card() -> None:
    """A card is told from others by a digest, which is the same wherever it is used."""
    run = builders.run(AGENTIC, engine="vllm", energy_source="nvml-counter")
    held = replace(run, conditions=Conditions(gpus=("GPU-1",), rejected=("too short",)))
    from rejoule.analysis.proof import of_runs

    found = of_runs([held, held], Experiment({}, (), 1, 0, "0.1.0"), ())
    cards = {run.conditions.cards for run in found.runs if run.conditions is not None}
    assert len(cards) == 1 and "GPU-1" not in str(found) and found.runs[0].rejected == ("too short",)


def test_evidence_is_checked(folder: Path, tmp_path: Path) -> None:
    """What it says of an untouched folder holds; a changed, missing or added file is named; so is a changed claim."""
    file = tmp_path / "e.json"
    assert CliRunner().invoke(export, [str(folder), "--to", "evidence", "-o", str(file)]).exit_code == 0
    assert differences(read(file), folder) == []
    told = CliRunner().invoke(export, ["--check", str(file), str(folder), "--json"])
    assert orjson.loads(told.stdout)["differences"] == []

    body = orjson.loads(file.read_bytes())
    del body["digest"]
    body["runs"][0]["energy"]["gpu_j"] = 1.0
    forged = tmp_path / "forged.json"
    forged.write_bytes(sealed(body))
    assert any("energy not as in its files" in line for line in differences(read(forged), folder))
    file.write_bytes(file.read_bytes().replace(b'"trials": 1', b'"trials": 2'))
    with pytest.raises(RejouleError, match="not what was written"):
        read(file)

    run = next(folder.glob("runs/*/run.json"))
    run.write_bytes(run.read_bytes() + b"\n")
    run.with_name("steps.jsonl.zst").unlink()
    (folder / "runs" / "more").mkdir()
    (folder / "runs" / "more" / "run.json").write_text("{}")
    told_now = differences(read(forged), folder)
    assert len(told_now) == 3 and all(
        any(word in line for line in told_now) for word in ("another file", "missing", "not in the evidence")
    )
    result = CliRunner().invoke(export, ["--check", str(forged), str(folder)])
    assert isinstance(result.exception, RejouleError)


def test_evidence_of_before_profiles_were_told_still_holds(folder: Path, tmp_path: Path) -> None:
    loaded = load_runs(folder)
    (body,) = exported(Source(loaded, loaded.runs, ()), "evidence").files.values()
    old = orjson.loads(body)
    del old["digest"], old["modelled"]
    for run in old["runs"]:
        del run["calibrated"]
    file = tmp_path / "old.json"
    file.write_bytes(sealed(old | {"format_version": 1}))
    assert differences(read(file), folder) == []


def test_evidence_says_whether_the_profile_was_fitted() -> None:
    """``None`` where no profile says, as of what was measured."""
    from rejoule.analysis.proof import of_runs

    run = builders.run(AGENTIC)
    runs = [replace(run, engine={**run.engine, **told}) for told in ({}, {"calibrated": True}, {"calibrated": False})]
    found = of_runs(runs, Experiment({}, (), 1, 0, "0.1.0"), ())
    assert [one.calibrated for one in found.runs] == [None, True, False]
    assert [note.startswith("uncalibrated") for note in found.modelled] == [True]


def test_nothing_is_written_over_unasked(folder: Path, tmp_path: Path) -> None:
    """A file that is there stays, unless forced; a folder and a file are not taken for each other."""

    def invoke(*given: object) -> str:
        result = CliRunner().invoke(export, [str(folder), *map(str, given)])
        return str(result.exception) if isinstance(result.exception, RejouleError) else ""

    there = tmp_path / "c.md"
    there.write_text("mine")
    assert "exists" in invoke("--to", "markdown", "-o", there) and there.read_text() == "mine"
    assert invoke("--to", "markdown", "-o", there, "--force") == "" and there.read_text() != "mine"
    assert "is a folder" in invoke("--to", "markdown", "-o", tmp_path)
    assert "is a file" in invoke("--to", "csv", "-o", there)
    assert "leave out --only" in invoke("--to", "evidence", "-o", tmp_path / "e", "--only", "max_num_seqs=8")


def test_exports_are_the_same_every_time() -> None:
    """Equal runs, equal bytes."""
    given = source(builders.grid({"agentic": AGENTIC}, [1, 8], [None]))
    for to in ("perfetto", "csv", "markdown", "svg"):
        assert exported(given, to) == exported(given, to)
