"""What ReJoule's client costs, beside a floor and, where they are installed, AIPerf and GuideLLM.

    python -m benchmarks.client [--rounds 5] [--with-peers] [--peer-rounds 3] [--write]

Every client runs against the same mock server, in turns, so that a machine that slows down slows all of them. Prints
the tables; with ``--write`` also puts them into docs/benchmarks.md and everything measured into
benchmarks/results.json.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import orjson
from benchmarks import clients
from benchmarks.clients import ROOT, Case
from benchmarks.loads import Loads, write_loads
from benchmarks.measure import Measurement, Mock, measure, mock_server

PAGE = ROOT / "docs" / "benchmarks.md"
RESULTS = Path(__file__).with_name("results.json")
Found = dict[tuple[str, str], list[Measurement]]
Value = Callable[[Measurement], float | None]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--with-peers", action="store_true", help="install AIPerf and GuideLLM (7 GB) and run them")
    options.add_argument("--peer-rounds", type=int, default=3)
    options.add_argument("--transports", action="store_true", help="compare HTTP transports too")
    options.add_argument("--write", action="store_true", help=f"into {PAGE.relative_to(ROOT)}")
    given = options.parse_args()
    floor = clients.environment("floor")
    with TemporaryDirectory() as folder, mock_server(floor) as mock:
        work = Path(folder)
        loads = write_loads(work)
        cases = clients.own(mock.url, loads, work, floor)
        others = clients.peers(mock.url, loads, work) if given.with_peers else []
        found: Found = {}
        for turn in range(max(given.rounds, given.peer_rounds if others else 0)):
            for case in [*(cases if turn < given.rounds else []), *(others if turn < given.peer_rounds else [])]:
                result = run_once(case, loads, work, mock)
                found.setdefault((case.load, case.client), []).append(result)
                print(case.load, case.client, asdict(result), file=sys.stderr, flush=True)
    notes: dict[tuple[str, str], str] = {(case.load, case.client): case.note for case in [*cases, *others]}
    tables = {"machine": machine(bool(others)), "clients": client_tables(found, notes)}
    for text in tables.values():
        print(text, end="\n\n")
    if given.write:
        for name, text in tables.items():
            put(PAGE, name, text)
        rows = [
            {"load": load, "client": client, "rounds": [asdict(m) for m in measured]}
            for (load, client), measured in found.items()
        ]
        about = {"date": str(date.today()), "machine": machine_facts(), "versions": versions(bool(others))}
        RESULTS.write_bytes(orjson.dumps({**about, "results": rows}, option=orjson.OPT_INDENT_2) + b"\n")
    if given.transports:
        text = transports(floor)
        print(text)
        if given.write:
            put(PAGE, "transports", text)


def run_once(case: Case, loads: Loads, work: Path, mock: Mock) -> Measurement:
    """One run of one client, from a cold start."""
    for left in ("runs", "aiperf-cache"):
        shutil.rmtree(work / left, ignore_errors=True)
    return measure(
        case.command,
        mock,
        folder=work,
        log=work / f"{case.client}-{case.load}.log",
        environment=case.environment,
        due_s=loads.paced_due_s if case.load == "paced" else None,
        one_at_a_time=case.load == "chain",
    )


def transports(python: Path) -> str:
    """The comparison of HTTP transports, as a table."""
    path = os.pathsep.join((str(ROOT / ".src"), str(ROOT)))
    command = [str(python), "-m", "benchmarks.transports"]
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.check_output(command, env=environment, cwd=ROOT, text=True).strip()


def spread(measured: Sequence[Measurement], value: Value, form: str) -> str:
    """Median and range of what was measured; a dash where it does not apply."""
    values = sorted(v for m in measured if m.status == 0 and (v := value(m)) is not None)
    if not values:
        return "–"
    return f"{median(values):{form}} [{values[0]:{form}}–{values[-1]:{form}}]"


COLUMNS: Mapping[str, Mapping[str, tuple[Value, str]]] = {
    "fan": {
        "requests/s": (lambda m: m.rate, ".0f"),
        "CPU ms a request": (lambda m: m.cpu_ms, ".2f"),
        "first request, s": (lambda m: m.first_s, ".2f"),
        "peak MB": (lambda m: m.peak_mb, ".0f"),
        "connections": (lambda m: m.connections, ".0f"),
    },
    "chain": {
        "requests/s": (lambda m: m.rate, ".0f"),
        "hop p50, ms": (lambda m: m.hop_p50_ms, ".2f"),
        "hop p99, ms": (lambda m: m.hop_p99_ms, ".2f"),
    },
    "paced": {
        "late p50, ms": (lambda m: m.late_p50_ms, ".2f"),
        "late p99, ms": (lambda m: m.late_p99_ms, ".2f"),
        "machine late p99, ms": (lambda m: m.machine_late_p99_ms, ".2f"),
        "CPU ms a request": (lambda m: m.cpu_ms, ".2f"),
    },
}
TITLES = {
    "fan": "10,000 calls in 1,000 trees, 32 in flight",
    "chain": "2,000 calls, each waiting for the one before",
    "paced": "2,000 calls, a Poisson process of 100 a second",
}


def client_tables(found: Found, notes: Mapping[tuple[str, str], str]) -> str:
    """One table for each load: medians and ranges over the rounds."""
    parts = []
    for load, columns in COLUMNS.items():
        rows = [(client, measured) for (of, client), measured in found.items() if of == load]
        lines = [
            f"**{TITLES[load]}**",
            "",
            f"| client | rounds | {' | '.join(columns)} |",
            "|---" * (len(columns) + 2) + "|",
        ]
        for client, measured in rows:
            failed = sum(m.status != 0 for m in measured)
            rounds = f"{len(measured)}, {failed} failed" if failed else str(len(measured))
            note = notes.get((load, client))
            cells = [spread(measured, value, form) for value, form in columns.values()]
            lines.append(f"| {client}{f' ({note})' if note else ''} | {rounds} | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    if ratio := _ratio(found):
        parts.append(ratio)
    return "\n\n".join(parts)


def _ratio(found: Found) -> str | None:
    pairs = zip(found.get(("fan", "ReJoule"), ()), found.get(("fan", "floor"), ()), strict=False)
    ratios = sorted(ours.rate / floor.rate for ours, floor in pairs)
    if not ratios:
        return None
    return (
        f"ReJoule's request rate over the floor client's, round by round: "
        f"{median(ratios):.2f} [{ratios[0]:.2f}–{ratios[-1]:.2f}]."
    )


def machine_facts() -> dict[str, object]:
    """What the numbers depend on besides the programs."""
    info = Path("/proc/cpuinfo").read_text()
    model = next((line.partition(":")[2].strip() for line in info.splitlines() if "model name" in line), "unknown")
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 1e6
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gb": round(memory, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[2], 1),
    }


def versions(with_peers: bool) -> dict[str, str]:
    """Of the clients, as installed."""
    found = {"rejoule": version("rejoule")}
    for name in ("floor", *(("aiperf", "guidellm") if with_peers else ())):
        for pinned in clients.ENVIRONMENTS[name]:
            package, _, number = pinned.partition("==")
            found[package] = number
    return found


def machine(with_peers: bool) -> str:
    """The machine, the date and the versions, in a paragraph."""
    facts = machine_facts()
    said = ", ".join(f"{name} {number}" for name, number in versions(with_peers).items())
    return (
        f"Measured on {date.today()}: {facts['cpu']}, {facts['cores']} cores, {facts['memory_gb']} GB, "
        f"{facts['system']}, Python {facts['python']}; load average {facts['load_average']} over the last 15 minutes. "
        f"Versions: {said}."
    )


def put(page: Path, name: str, text: str) -> None:
    """Replaces what stands between a page's markers ``name``."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = page.read_text().partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{page} has no markers {begin} … {end}")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}")


if __name__ == "__main__":
    main()
