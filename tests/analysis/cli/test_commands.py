from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import orjson
import pytest
from click.testing import CliRunner, Result
from tests.analysis import builders

from rejoule.analysis.cli.advise import advise
from rejoule.analysis.cli.diff import _print_rows, _style, diff
from rejoule.analysis.cli.energy import energy
from rejoule.analysis.cli.report import report
from rejoule.analysis.cli.sensitivity import sensitivity
from rejoule.analysis.comparison.row import Row
from rejoule.analysis.report import file
from rejoule.analysis.statistics import Interval
from rejoule.traces import runs
from rejoule.traces.errors import RejouleError
from rejoule.traces.refused import Refused, save_refused
from rejoule.traces.run import Conditions, Run
from rejoule.traces.store import trace_digest

TRACES = {"agentic": builders.trace(3)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder: one workload, two batch sizes, two caps, two trials."""
    return stored(tmp_path_factory, builders.grid(TRACES, [1, 8], [300.0, None], trials=2))


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder whose calls were made by agents."""
    found = builders.grid(TRACES, [1, 8], [None], trials=2)
    return stored(tmp_path_factory, [builders.with_agents(run, {"plan": "lead", "write": "writer"}) for run in found])


def stored(folders: pytest.TempPathFactory, found: Sequence[Run]) -> Path:
    path = folders.mktemp("folder") / "runs"
    planned = tuple(runs.PlannedRun(r.id, r.trace, r.configuration, r.trial) for r in found)
    digests = {name: trace_digest(trace) for name, trace in TRACES.items()}
    runs.create(path, runs.Experiment(digests, planned, 2, 0, "0.1.0"), TRACES)
    for run in found:
        runs.save_run(path, run)
    return path


def invoke(command: click.Command, *words: object) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words], catch_exceptions=True, env={"COLUMNS": "160"})


def refusal(command: click.Command, *words: object) -> str:
    result = invoke(command, *words)
    assert isinstance(result.exception, RejouleError), result.output
    return str(result.exception)


def test_diff_prints_a_headline_and_tables(folder: Path) -> None:
    """People get a sentence, the whole runs, and joules by what they asked for, labelled by source."""
    wanted = ("--a", "max_num_seqs=1", "--b", "max_num_seqs=8", "--a", "power_cap_w=none", "--b", "power_cap_w=none")
    result = invoke(diff, folder, *wanted, "--by", "phase")
    assert result.exit_code == 0, result.exception
    assert "less energy with batch 8 than with batch 1" in result.stdout
    assert "agentic: joules by phase, energy modelled (model:made-up)" in result.stdout
    assert "prefill" in result.stdout and "plan" not in result.stdout


def test_a_gate_ends_with_status_1_and_says_why(folder: Path) -> None:
    """Status 1 is for a condition that came true, with --strict also for one that cannot be told; 2 is for mistakes."""
    wanted = ("--a", "max_num_seqs=1,power_cap_w=none", "--b", "max_num_seqs=8,power_cap_w=none")
    kept = invoke(diff, folder, *wanted, "--fail-if", "joules > 3%")
    assert kept.exit_code == 0 and "passes: joules > 3%: agentic: −" in kept.stdout
    broken = invoke(diff, folder, *wanted, "--fail-if", "joules > 3%", "--fail-if", "joules < -1%", "--json")
    assert broken.exit_code == 1
    assert [one["outcome"] for one in orjson.loads(broken.stdout)["conditions"]] == ["passes", "fails"]
    assert "conditions" not in orjson.loads(invoke(diff, folder, *wanted, "--json").stdout)
    unknown = ("--fail-if", "joules.cpu > 3%")
    assert "neither side has CPU energy" in refusal(diff, folder, *wanted, *unknown)
    assert "no condition to be strict about" in refusal(diff, folder, *wanted, "--strict")


def test_sensitivity_says_which_knob_matters(folder: Path) -> None:
    """A sentence, a table in which every knob has its effect, and the same in JSON with how it was found."""
    result = invoke(sensitivity, folder)
    assert result.exit_code == 0, result.exception
    assert "agentic: GPU energy depends most on batch size: −" in result.stdout
    assert "batch 1 → batch 8" in result.stdout and "300 W cap → no cap" in result.stdout
    (found,) = orjson.loads(invoke(sensitivity, folder, "--json", "--figure", "makespan").stdout)["workloads"]
    assert {e["knob"]: e["verdict"] for e in found["effects"]} == {"max_num_seqs": "moves", "power_cap_w": "inert"}
    assert "choose among joules" in refusal(sensitivity, folder, "--figure", "watts")
    assert "runs of one configuration alone" in refusal(
        sensitivity, folder, "--only", "max_num_seqs=1,power_cap_w=none"
    )


def test_advise_names_the_configuration_and_what_to_run_next(folder: Path, tmp_path: Path) -> None:
    """A sentence, a table with where each figure is from, a file for what to run, and all of it in JSON."""
    wanted = ("--slo", "workflow.p50=60s", "--power", "600W", "--today", "max_num_seqs=1,power_cap_w=none")
    result = invoke(advise, folder, *wanted)
    assert result.exit_code == 0, result.exception
    assert "agentic: batch 8, 300 W cap takes the least joules and keeps workflow latency p50 ≤ 60.0" in result.stdout
    assert "against batch 1, no cap" in result.stdout and "modelled" in result.stdout and "best" in result.stdout
    more = ("--consider", "power_cap_w=250", "--write", tmp_path / "next.toml")
    written = invoke(advise, folder, *wanted, *more)
    assert written.exit_code == 0, written.exception
    assert "[[cells]]" in (tmp_path / "next.toml").read_text() and "predicted" in written.stdout
    (found,) = orjson.loads(invoke(advise, folder, *wanted, "--json").stdout)["workloads"]
    assert found["best"]["settings"] == {"max_num_seqs": 8, "power_cap_w": 300.0} and len(found["candidates"]) == 4
    today = [
        word for words in re.findall(r"--today\s+(\S+)", invoke(advise, folder).stdout) for word in ("--today", words)
    ]
    assert today and "% against" in " ".join(invoke(advise, folder, *today).stdout.split())
    assert "nothing that was run keeps" in invoke(advise, folder, "--slo", "workflow.p50=1ms").stdout
    assert "is no objective" in refusal(advise, folder, "--slo", "fast")
    assert "has no values" in refusal(advise, folder, "--consider", "max_num_seqs")


def test_advise_goes_by_joules_a_success_where_asked(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> None:
    """Beside joules a workflow in the table and in JSON, where an infinite one is told from one that is not known."""
    told = {1: (True, True, True), 8: (False, False, False), 64: (True, None, True)}
    found = [
        replace(
            run, workflows=tuple(replace(w, success=said) for w, said in zip(run.workflows, told[batch], strict=True))
        )
        for run in builders.grid(TRACES, [1, 8, 64], [None], trials=1)
        for batch in [run.configuration.max_num_seqs or 0]
    ]
    path = stored(tmp_path_factory, found)
    result = invoke(advise, path, "--least", "joules.success")
    assert result.exit_code == 0, result.exception
    assert "agentic: batch 1 takes the least joules a success: " in result.stdout
    assert all(words in result.stdout for words in ("J a workflow", "J a success", "succeeded", "∞", "100 %", "–"))
    (body,) = orjson.loads(invoke(advise, path, "--least", "joules.success", "--json").stdout)["workloads"]
    assert body["least"] == "joules.success" and body["best"]["label"] == "batch 1"
    cells = {one["label"]: (one["success_joules"], one["succeeded"]) for one in body["candidates"]}
    assert cells["batch 8"] == ({"value": None, "low": None, "high": None}, 0.0)
    assert cells["batch 64"] == (None, None) and cells["batch 1"][1] == 1.0
    assert "batch 8 takes the least joules: " in invoke(advise, path).stdout
    assert "J a success" not in invoke(advise, folder).stdout
    assert "nobody said which workflows" in refusal(advise, folder, "--least", "joules.success")


def test_diff_shows_agents_beside_nodes(named: Path) -> None:
    """In a table below that of nodes, alone where asked for, and as rows of a scope of their own in JSON."""
    wanted = ("--a", "max_num_seqs=1", "--b", "max_num_seqs=8")
    both, alone = (invoke(diff, named, *wanted, *more).stdout for more in ((), ("--by", "agent")))
    assert "joules by node" in both and "joules by agent" in both and "writer" in both
    assert "joules by node" not in alone and "joules by agent" in alone
    body = orjson.loads(invoke(diff, named, *wanted, "--json").stdout)
    assert {row["name"] for row in body["rows"] if row["scope"] == "agent"} == {"lead", "writer", "no agent", "idle"}


def test_diff_by_agent_says_that_there_are_none(folder: Path) -> None:
    """Where no agent is named, nothing is shown of any unless they are asked for."""
    wanted = [
        word for side in ("--a", "--b") for knob in ("max_num_seqs=8", "power_cap_w=300") for word in (side, knob)
    ]
    assert "by agent" not in invoke(diff, folder, *wanted).stdout
    assert "agentic has no joules by agent" in invoke(diff, folder, *wanted, "--by", "agent").stdout


def test_diff_prints_one_json_object(folder: Path) -> None:
    """Machines get every row, with null for what is not known."""
    one = ("max_num_seqs=8", "power_cap_w=300")
    chosen = [word for side in ("--a", "--b") for knob in one for word in (side, knob)]
    result = invoke(diff, folder, folder, *chosen, "--json")
    body = orjson.loads(result.stdout)
    assert {row["scope"] for row in body["rows"]} == {"workload", "workflows", "node", "phase"}
    assert all(row["verdict"] == "no difference" and row["delta"] == 0.0 for row in body["rows"])
    assert body["source"] == "modelled (model:made-up)"


def test_diff_refuses_with_a_remedy(folder: Path, tmp_path: Path) -> None:
    """What cannot be compared gets one line that says what to do."""
    assert "--a KNOB=VALUE and --b KNOB=VALUE" in refusal(diff, folder)
    assert "power_cap_w is none, 300" in refusal(diff, folder, "--a", "max_num_seqs=1", "--b", "max_num_seqs=8")
    assert "1, 8" in refusal(diff, folder, "--a", "max_num_seqs=3", "--b", "max_num_seqs=8")
    assert "is not a run folder" in refusal(diff, tmp_path, folder)


@pytest.mark.parametrize("by", ["workload", "node", "phase", "workflow"])
def test_energy_adds_up(folder: Path, by: str) -> None:
    """The joules of one configuration, split in any way, add up with idle to its total."""
    chosen = ("--a", "max-num-seqs=8,power-cap=300", "--by", by)
    (spent,) = orjson.loads(invoke(energy, folder, *chosen, "--json").stdout)["configurations"]
    assert sum(part["energy_j"] for part in spent["parts"]) == pytest.approx(spent["gpu_j"], rel=1e-9)
    assert sum(part["share"] for part in spent["parts"]) == pytest.approx(1.0)
    assert (spent["trials"], spent["source"], spent["method"]) == (2, "modelled (model:made-up)", ["step energies"])
    assert spent["misfit"] < 1e-6
    result = invoke(energy, folder, *chosen)
    assert result.exit_code == 0, result.exception
    assert "agentic, batch 8, 300 W cap" in result.stdout and "modelled (model:made-up)" in result.stdout
    assert "idle" in result.stdout and "total" in result.stdout


def test_energy_says_what_a_node_and_a_call_take(folder: Path) -> None:
    """By node there are prefill, decode, sum, share, joules per call, and calls."""
    one = ("--a", "max_num_seqs=8", "--a", "power_cap_w=none")
    (spent,) = orjson.loads(invoke(energy, folder, *one, "--json").stdout)["configurations"]
    nodes = [part for part in spent["parts"] if part["name"] != "idle"]
    assert {part["name"] for part in nodes} == set(builders.CHAIN)
    for part in nodes:
        assert part["prefill_j"] + part["decode_j"] == pytest.approx(part["energy_j"])
        assert part["call_j"] * part["calls"] == pytest.approx(part["energy_j"])
    assert sum(part["calls"] for part in nodes) == spent["calls"]


def test_energy_by_method(folder: Path) -> None:
    """The usual methods stand beside attribution, for people and for machines."""
    one = ("--a", "max_num_seqs=8", "--a", "power_cap_w=none", "--methods")
    result = invoke(energy, folder, *one)
    assert result.exit_code == 0, result.exception
    assert all(word in result.stdout for word in ("attributed", "window", "concurrency", "output tokens", "plan"))
    (found,) = orjson.loads(invoke(energy, folder, *one, "--json").stdout)["configurations"]
    assert found["rows"][-1]["joules"]["attributed"] == pytest.approx(found["gpu_j"])
    assert "of the total" in result.stdout and "100 %" in result.stdout
    assert "not by phase; leave out --by" in refusal(energy, folder, *one, "--by", "phase")


def test_unclear_beside_a_clear_interval_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """Where only the correction for many rows makes a verdict unclear, the table says so; elsewhere it does not."""
    clear = Row("node", "t", "plan", "J", 10.0, 8.0, 3, -0.2, Interval(-0.3, -0.1), 0.2, "cannot tell")
    for rows, explained in (([clear], True), ([replace(clear, interval=Interval(-0.3, 0.1))], False)):
        _print_rows("title", rows)
        assert ("Holm" in capsys.readouterr().out) is explained


def test_energy_shows_what_the_cap_did(folder: Path) -> None:
    """Cap, share of time that it bound and clock stand below the table, with dashes for what is unknown."""
    words = " ".join(invoke(energy, folder, "--a", "max_num_seqs=8,power_cap=300").stdout.split())
    assert "cap in force 300 W; bound 25 % of the busy time; mean SM clock –" in words
    assert "steady state batch" in words and "by component" not in words and "±" in words


def test_energy_of_a_measured_run(tmp_path: Path) -> None:
    """Gross stands before net, memory and core apart, the rest is a dash, and conditions are said."""
    run = builders.run(builders.trace(2), 8, engine="vllm", energy_source="nvml-counter")
    around = Conditions(start_temperature_c=41.0, end_temperature_c=52.0, bare_w=70.0, loaded_w=75.0, warm_ups=3)
    saved = replace(run, energy=replace(run.energy, hbm_j=10.0), conditions=around)
    planned = runs.PlannedRun(run.id, run.trace, run.configuration, 0)
    trace = builders.trace(2)
    plan = runs.Experiment({"agentic": trace_digest(trace)}, (planned,), 1, 0, "0")
    runs.create(tmp_path / "r", plan, {"agentic": trace})
    runs.save_run(tmp_path / "r", saved)
    words = " ".join(invoke(energy, tmp_path / "r").stdout.split())
    assert (
        words.index("by component") < words.index("its core") < words.index("CPU –") < words.index("net of idle power")
    )
    assert "idle power 70.0 W bare, 75.0 W model loaded; temperature 41 to 52 °C; warm-ups 3" in words
    (found,) = orjson.loads(invoke(energy, tmp_path / "r", "--json").stdout)["configurations"]
    assert found["evidence"]["steady"]["power_w"] > 0 and found["evidence"]["warm_ups"] == 3


def test_energy_of_several_configurations_tells_how_to_choose(folder: Path) -> None:
    """Several configurations are listed with their totals, and with the knobs to choose one by."""
    result = invoke(energy, folder)
    assert "4 configurations" in result.stdout and "batch 1, no cap" in result.stdout
    assert "choose one with --a KNOB=VALUE: max_num_seqs is 1, 8; power_cap_w is" in result.stdout
    assert len(orjson.loads(invoke(energy, folder, "--json").stdout)["configurations"]) == 4


def test_energy_without_steps_says_so(folder: Path, tmp_path: Path) -> None:
    """Where a run's step records are gone, its joules by node are said to come from the client's times."""
    copy = tmp_path / "runs"
    shutil.copytree(folder, copy)
    for run in runs.load_runs(folder).runs:
        shutil.rmtree(copy / "runs" / run.id)
        runs.save_run(copy, replace(run, steps=None))
    chosen = ("--a", "max_num_seqs=8,power_cap_w=none")
    assert "attributed from the client's times" in invoke(energy, copy, *chosen).stdout
    result = invoke(diff, folder, copy, *chosen, "--b", "max_num_seqs=8,power_cap_w=none")
    assert "not compared" in " ".join(result.stdout.split())
    assert "joules by node" not in result.stdout.split("whole run")[1]


@pytest.mark.parametrize("columns", ["30", "80", "200"])
def test_numbers_stay_whole(folder: Path, columns: str) -> None:
    """However narrow the terminal, no figure of a table is cut or wrapped, and no line is wider."""

    def figures(command: click.Command, words: tuple[Path | str, ...], columns: str) -> set[str]:
        result = CliRunner().invoke(command, [str(w) for w in words], env={"COLUMNS": columns})
        assert result.exit_code == 0
        lines = result.stdout.splitlines()
        assert max(map(len, lines)) <= int(columns)
        return set(re.findall(r"[\d.,]+\N{NO-BREAK SPACE}\w+", "\n".join(line for line in lines if "  " in line)))

    one = ("--a", "max_num_seqs=1,power_cap_w=none")
    for command, words in ((energy, (folder, *one)), (diff, (folder, *one, "--b", "max_num_seqs=8,power_cap_w=none"))):
        assert figures(command, words, columns) == figures(command, words, "300")


def test_report_writes_the_page(folder: Path, tmp_path: Path) -> None:
    """The page is written, and its path and size are printed."""
    page = tmp_path / "page.html"
    result = invoke(report, folder, "-o", page, "--title", "Ours")
    assert result.exit_code == 0, result.exception
    assert result.stdout.startswith(str(page)) and "MB" in result.stdout
    assert "<h1>Ours</h1>" in page.read_text()
    body = orjson.loads(invoke(report, folder, "-o", page, "--json").stdout)
    assert body == {"path": str(page), "bytes": page.stat().st_size}


def test_report_lists_what_was_left_out(folder: Path, tmp_path: Path) -> None:
    """Runs that the experiment left out stand on the page with their reason."""
    copy = tmp_path / "runs"
    shutil.copytree(folder, copy)
    planned = runs.read_experiment(copy).runs[0]
    save_refused(copy, [Refused(planned.id, replace(planned.configuration, power_cap_w=90.0), "below the least limit")])
    assert invoke(report, copy, "-o", tmp_path / "page.html").exit_code == 0
    assert "90 W cap: below the least limit (1 run)" in (tmp_path / "page.html").read_text()


def test_report_refuses_what_it_cannot_write(folder: Path, tmp_path: Path) -> None:
    """An output that cannot be written is one line with a remedy."""
    assert "choose another path with -o" in refusal(report, folder, "-o", tmp_path / "none" / "page.html")


def test_report_writes_over_reports_only(folder: Path, tmp_path: Path) -> None:
    """An earlier page is replaced; any other file is kept unless --force is given, and nothing is left beside it."""
    source = tmp_path / "agent.py"
    source.write_text("graph = 1\n")
    assert "is not a report" in refusal(report, folder, "-o", source)
    assert source.read_text() == "graph = 1\n"
    assert "is a folder" in refusal(report, folder, "-o", tmp_path, "--force")
    assert invoke(report, folder, "-o", source, "--force").exit_code == 0
    assert invoke(report, folder, "-o", source).exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["agent.py"]


def test_a_failed_write_leaves_the_earlier_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up while a page is written costs neither the page that was there nor room."""
    page = tmp_path / "page.html"
    file.write(page, b"before")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RejouleError, match="No space left"):
        file.write(page, b"after")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("page.html", b"before")]


def test_a_file_is_not_a_run_folder(tmp_path: Path) -> None:
    """A trace in place of a run folder is called by what it is not."""
    trace = tmp_path / "mine.jsonl"
    trace.write_text("{}")
    for command in (energy, report):
        assert "mine.jsonl is not a run folder" in refusal(command, trace)


def test_commands_load_fast() -> None:
    """The commands import neither NumPy nor Rich until they run."""
    names = ("advise", "diff", "energy", "export", "findings", "report", "sensitivity", "validate")
    commands = ", ".join(f"rejoule.analysis.cli.{name}" for name in names)
    script = f"import sys, {commands}; print(sorted({{'numpy', 'rich'}} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_energy_has_the_figures_of_workflows(folder: Path) -> None:
    """In JSON with what they rest on; on a terminal, for one configuration and for several."""
    one = ("--a", "max_num_seqs=8,power_cap_w=300")
    (spent,) = orjson.loads(invoke(energy, folder, *one, "--json").stdout)["configurations"]
    found = {told["name"]: told for told in spent["figures"]}
    assert found["energy per workflow"]["value"] == pytest.approx(spent["gpu_j"] / 3)
    assert (spent["workflows"], found["slowdown by waiting"]["trials"]) == (6, 2)
    assert [name for name, told in found.items() if not told["resolved"]] == [
        "workflow latency p95",
        "workflow latency p99",
    ]
    assert any("of 3 workflows, too few" in note for note in spent["figure_notes"])
    alone, several = invoke(energy, folder, *one).stdout, invoke(energy, folder).stdout
    assert "workflows: 6 complete, 2 trials" in alone and "Jain's index" in alone
    assert "an hour a GPU" in several and "Jain" in several and "too few to tell them" in several


def test_diff_judges_workflows_in_a_table_of_their_own(folder: Path) -> None:
    """Joules a workflow change as the joules do; more throughput is better, and said in green."""
    wanted = ("--a", "max_num_seqs=1", "--b", "max_num_seqs=8", "--a", "power_cap_w=300", "--b", "power_cap_w=300")
    body = orjson.loads(invoke(diff, folder, *wanted, "--json").stdout)
    rows = body["rows"]
    assert any("what a larger batch slows without a wait" in note for note in body["notes"])
    whole, flows = ({r["name"]: r for r in rows if r["scope"] == scope} for scope in ("workload", "workflows"))
    same = ("change", "interval", "allowance", "verdict")
    assert [flows["energy per workflow"][k] for k in same] == pytest.approx([whole["GPU energy"][k] for k in same])
    assert flows["workflows an hour a GPU"]["verdict"] == "more" and flows["slowdown by waiting"]["verdict"] == "less"
    better = [_style(_row(r)) for r in flows.values() if r["verdict"] in ("less", "more")]
    assert better and set(better) == {"green"}
    assert "agentic: workflows, energy modelled" in invoke(diff, folder, *wanted).stdout


def test_diff_says_of_which_side_a_note_is(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What stands against figures of both sides is said once, what of one with its name."""
    one, other = builders.grid(TRACES, [1, 8], [None])
    path = stored(tmp_path_factory, [one, replace(other, steps=None)])
    notes = orjson.loads(invoke(diff, path, "--a", "max_num_seqs=1", "--b", "max_num_seqs=8", "--json").stdout)["notes"]
    assert sum("too few to tell them from the longest" in note for note in notes) == 2  # of workflows, and of calls
    (queue,) = [note for note in notes if "waited in the server" in note]
    assert queue.startswith("B: ")


def _row(body: dict[str, Any]) -> Row:
    return Row(**{name: value for name, value in body.items() if name != "delta"})
