"""``python -m benchmarks.spoilt``: spoils what ReJoule reads, and prints what became of it, as Markdown tables.

Most files are read in this process; a share of them by the real command line, as is all that servers answer.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from shutil import rmtree
from tempfile import TemporaryDirectory
from threading import Timer
from time import monotonic
from typing import Final

from benchmarks.spoilt.damage import spoilt
from benchmarks.spoilt.kinds import KINDS, Kind, lay_out
from benchmarks.spoilt.servers import BROKEN, SOUND_SERVER, Broken, serving

from rejoule.traces.errors import RejouleError

LONGEST_S: Final = 5.0
MOST_BYTES: Final = 1 << 30
OURS: Final = ("out", "out.jsonl", "r.html", "r.jsonl", "state", "servers")
"""What commands are told to write."""
GRAPH: Final = """
from langgraph.graph import START, StateGraph
from openai import OpenAI
def ask(state):
    client = OpenAI(max_retries=0, timeout=2)
    said = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}], stream=True)
    return {"text": "".join(c.choices[0].delta.content or "" for c in said if c.choices)}
builder = StateGraph(dict)
builder.add_node("ask", ask)
builder.add_edge(START, "ask")
graph = builder.compile()
"""


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that ended, or was ended."""

    status: int
    said: bytes
    took_s: float
    memory_bytes: int

    def faults(self, longest_s: float = LONGEST_S) -> Iterator[str]:
        if self.status not in (0, 1, 2, 130) or b"Traceback" in self.said:
            yield "traceback"
        if self.took_s > longest_s:
            yield "hang"
        if self.memory_bytes > MOST_BYTES:
            yield "memory"
        if any(byte < 0x20 and byte not in b"\t\n\r" for byte in self.said) or b"\xc2\x9b" in self.said:
            yield "escape"


REJOULE: Final = ("-m", "rejoule.replay")
ALONE: Final = """
import os, sys
os.environ.update(OPENAI_BASE_URL=sys.argv[1], OPENAI_API_KEY="none")
from g import graph
graph.invoke({})
"""
"""The agent without a recording."""


def ran(folder: Path, words: Sequence[str], limit_s: float = 60.0) -> Ran:
    """Python with these words, in a folder that is its home, too."""
    out = folder / ".said"
    surroundings = {**os.environ, "HOME": str(folder), "REJOULE_STATE": str(folder / "state"), "COLUMNS": "200"}
    command = [sys.executable, *words]
    begun_s = monotonic()
    with out.open("wb") as file:
        process = subprocess.Popen(command, cwd=folder, stdout=file, stderr=subprocess.STDOUT, env=surroundings)
        timer = Timer(limit_s, process.kill)
        timer.start()
        _, status, used = os.wait4(process.pid, 0)
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
    took_s = monotonic() - begun_s
    said = out.read_bytes()
    out.unlink()
    return Ran(process.returncode, said, took_s, used.ru_maxrss << 10)


def listed(folder: Path) -> frozenset[str]:
    return frozenset(
        name for p in folder.rglob("*") if (name := str(p.relative_to(folder))).split("/", 1)[0] not in OURS
    )


def files_here(folder: Path, kind: Kind, count: int, source: Random) -> Counter[str]:
    """Damage to one kind of file, read in this process."""
    path = kind.file(folder)
    whole, wanted, found = path.read_bytes(), kind.read(folder), Counter[str]()
    before = listed(folder)
    for _ in range(count):
        path.write_bytes(spoilt(whole, source, compressed=path.suffix == ".zst"))
        begun_s = monotonic()
        try:
            read = kind.read(folder)
            told = not kind.sealed or kind.same(read, wanted)
            found["as it was" if read == wanted else "taken" if told else "other"] += 1
        except RejouleError as error:
            found["refused" if not kind.sealed or path.name in str(error) else "not named"] += 1
        except Exception as error:
            found["traceback"] += 1
            print(f"{kind.name}: {type(error).__name__}: {error}", file=sys.stderr)
        found["hang"] += monotonic() - begun_s > LONGEST_S
    path.write_bytes(whole)
    found["elsewhere"] += listed(folder) != before
    return found


def files_by_command(folder: Path, kind: Kind, count: int, source: Random) -> Counter[str]:
    """The same, read by the command line."""
    path = kind.file(folder)
    whole, found = path.read_bytes(), Counter[str]()
    wanted = _fresh(folder, kind.words)
    before = listed(folder)
    for _ in range(count):
        path.write_bytes(spoilt(whole, source, compressed=path.suffix == ".zst"))
        got = _fresh(folder, kind.words)
        for fault in got.faults(wanted.took_s + LONGEST_S):
            found[fault] += 1
            print(f"{kind.name}: {fault}: {got.said[-300:]!r}", file=sys.stderr)
        if b"changed by hand" in got.said:
            found["taken"] += 1
        elif got.status:
            named = not kind.sealed or path.name.encode() in got.said
            found["refused" if named and got.status == 2 else "not named"] += 1
        else:
            found["as it was" if got.said == wanted.said else "other" if kind.sealed else "taken"] += 1
    path.write_bytes(whole)
    found["elsewhere"] += listed(folder) != before
    return found


def _fresh(folder: Path, words: Sequence[str]) -> Ran:
    rmtree(folder / "out", ignore_errors=True)
    for name in ("out.jsonl", "r.jsonl"):
        (folder / name).unlink(missing_ok=True)
    return ran(folder, [*REJOULE, *words])


async def against(folder: Path, kind: Broken, words: Callable[[str], Sequence[str]]) -> Ran:
    async with serving(kind) as url:
        return await asyncio.to_thread(_fresh, folder, words(url))


def replaying(url: str) -> Sequence[str]:
    limits = [f"{name}_timeout_s=2" for name in ("silence", "first_token", "call")]
    options = [word for limit in limits for word in ("--option", limit)]
    return ["replay", "t.jsonl", "-o", "out", "--engine", url, "--arrivals", "burst", "--time-scale", "0", *options]


def recording(url: str) -> Sequence[str]:
    return ["record", "g.py:graph", "-o", "r.jsonl", "--engine", url, "--input", "{}"]


AGAINST: Final = {"replay": replaying, "record": recording}


async def by_itself(folder: Path, kind: Broken) -> Ran:
    """What the agent's own client makes of a server."""
    async with serving(kind) as url:
        return await asyncio.to_thread(ran, folder, ["-c", ALONE, url])


def servers(folder: Path, words: Callable[[str], Sequence[str]], kinds: Sequence[Broken]) -> Counter[str]:
    """What a command makes of each kind of server."""
    (folder / "g.py").write_text(GRAPH)
    found = Counter[str]()
    usual = asyncio.run(against(folder, SOUND_SERVER, words))
    assert usual.status == 0, usual.said
    before = listed(folder)
    for kind in kinds:
        got = asyncio.run(against(folder, kind, words))
        if "hang" in got.faults(usual.took_s + LONGEST_S):
            # A machine that others work on is slow at times: a hang is one twice, beside a sound server that is not.
            usual = asyncio.run(against(folder, SOUND_SERVER, words))
            if words is recording:
                # What the agent's client takes by itself is not the recording's.
                usual = replace(usual, took_s=usual.took_s + asyncio.run(by_itself(folder, kind)).took_s)
            got = asyncio.run(against(folder, kind, words))
        for fault in got.faults(usual.took_s + LONGEST_S):
            found[fault] += 1
            print(f"{words('')[0]}, {kind.name}: {fault}: {got.took_s:.1f} s {got.said[-300:]!r}", file=sys.stderr)
        found["refused" if got.status else "taken"] += 1
    found["elsewhere"] += listed(folder) != before
    return found


OUTCOMES: Final = ("as it was", "taken", "refused")
FAULTS: Final = ("other", "not named", "traceback", "hang", "memory", "escape", "elsewhere")


def row(name: str, count: int, found: Counter[str]) -> str:
    cells = [name, f"{count:,}", *(f"{found[what]:,}" for what in (*OUTCOMES, *FAULTS))]
    return f"| {' | '.join(cells)} |"


def table(rows: Sequence[str]) -> str:
    heads = ("", "tried", *OUTCOMES, "other figures", "file not named", *FAULTS[2:])
    return "\n".join([f"| {' | '.join(heads)} |", "|---|" + "--:|" * (len(heads) - 1), *rows])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20_000, help="spoilt files, read in this process")
    parser.add_argument("--commands", type=int, default=200, help="spoilt files, read by the command line")
    parser.add_argument("--servers", type=int, default=len(BROKEN), help="kinds of broken servers")
    parser.add_argument("--against", nargs="+", choices=AGAINST, default=list(AGAINST), help="commands that meet them")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    bad = 0
    with TemporaryDirectory() as name:
        folder = Path(name)
        lay_out(folder)
        rows = []
        for kind in KINDS:
            count = -(-given.files // len(KINDS))
            found = files_here(folder, kind, count, Random(f"{given.seed}:{kind.name}"))
            rows.append(row(kind.name, count, found))
            bad += sum(found[fault] for fault in FAULTS)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print(f"Files, read in one process, which took {peak} MiB at most:\n\n{table(rows)}\n", flush=True)
        told = [kind for kind in KINDS if kind.words]
        rows = []
        for kind in told if given.commands else ():
            count = -(-given.commands // len(told))
            found = files_by_command(folder, kind, count, Random(f"{given.seed}:{kind.name}:command"))
            rows.append(row(kind.name, count, found))
            bad += sum(found[fault] for fault in FAULTS)
        print(f"Files, read by the command line:\n\n{table(rows)}\n", flush=True)
        rows = []
        kinds = BROKEN[: given.servers]
        for name in given.against if kinds else ():
            found = servers(folder, AGAINST[name], kinds)
            rows.append(row(f"`{name}`", len(kinds), found))
            bad += sum(found[fault] for fault in FAULTS)
        print(f"Broken servers:\n\n{table(rows)}")
    return 1 if bad or peak << 20 > MOST_BYTES else 0


if __name__ == "__main__":
    sys.exit(main())
