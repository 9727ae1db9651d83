"""``PARROT=CHECKOUT PARROT_PYTHON=PYTHON python -m benchmarks.parrot TRACE``: a real ServeCore, without a GPU.

Parrot's ServeCore and its engine of type ``openai`` run in an environment of their own, with empty modules for torch
and its kernels, in front of ``rejoule serve``. TRACE is replayed through them, and its DAG is given to Parrot's
scheduler and to ReJoule's policy ``parrot``. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any

from benchmarks.parrot import ours
from benchmarks.parrot.watched import Seen, watching

from rejoule.replay.engines.engine_url import open_engine as serving
from rejoule.replay.engines.open import open_engine
from rejoule.replay.engines.parrot_calls import JOINT
from rejoule.replay.policy.parrot import for_throughput
from rejoule.replay.replay import replay
from rejoule.traces.model import Call, Trace
from rejoule.traces.run import Configuration, Run
from rejoule.traces.runs import PlannedRun
from rejoule.traces.store import load, trace_digest

HERE = Path(__file__).parent
AHEAD_S = 0.5
START_S = 90


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=Path)
    trace = load(parser.parse_args().trace)
    checkout = Path(os.environ["PARROT"])
    print(f"Parrot {_commit(checkout)}\n")
    columns = [
        _came_back(trace, *asyncio.run(_replayed(trace, ahead_s, exact)), ahead_s, exact)
        for ahead_s, exact in ((0.0, False), (0.0, True), (AHEAD_S, True))
    ]
    _table([(name, *(column[name] for column in columns)) for name in columns[0]])
    for workflow in trace.workflows:
        nodes = ours.calls_alone(workflow)
        _compared(nodes, _theirs(nodes))


async def _replayed(trace: Trace, ahead_s: float, exact: bool) -> tuple[Run, list[Seen]]:
    core, engine, front = _free_ports(3)
    with TemporaryDirectory() as name, serving("sim", {}, Path(name)) as url:
        async with watching(url, front, exact_lengths=exact) as seen:
            with ExitStack() as stack:
                folder = Path(name)
                stack.enter_context(_running("parrot.serve.http_server", _core(core), folder, core))
                stack.enter_context(_running("parrot.engine.http_server", _engine(engine, core, front), folder, engine))
                options = {"ahead_gap_s": ahead_s} if ahead_s else {}
                configuration = Configuration(engine=f"parrot:http://127.0.0.1:{core}", options=options)
                plan = PlannedRun("r", "t", configuration, 0)
                run = await replay(trace, plan, trace_digest(trace), open_engine)
            # The first is the one by which a server is tried.
            return run, seen[1:]


def _core(port: int) -> dict[str, Any]:
    flags = {"app_fifo": True, "graph_group": True, "ctx_group": True, "ctx_aware": True, "max_queue_size": 2048}
    return {"host": "127.0.0.1", "port": port, "session_life_span": 100_000, "global_scheduler": flags}


def _engine(port: int, core: int, backend: int) -> dict[str, Any]:
    instance = {"api_key": "none", "api_endpoint": "chat", "base_url": f"http://127.0.0.1:{backend}/v1"}
    limits = {"max_batch_size": 256, "max_num_batched_tokens": 10**8, "max_total_tokens": 10**8}
    return {
        "model": "embedded", "engine_name": "rejoule", "host": "127.0.0.1", "port": port, "engine_type": "openai",
        "random_seed": 0, "tasks_capacity": 256, "instance": instance, "scheduler": limits,
        "serve_core": {"host": "127.0.0.1", "port": core},
    }  # fmt: skip


@contextmanager
def _running(module: str, config: dict[str, Any], folder: Path, port: int) -> Iterator[None]:
    """One of Parrot's servers, once its port is open."""
    file = folder / f"{module}.json"
    file.write_text(json.dumps(config))
    with (folder / f"{module}.log").open("wb") as log:
        command = [_python(), str(HERE / "stubs.py"), module, "--config_path", str(file), "--release_mode"]
        server = subprocess.Popen(command, stdout=log, stderr=log, env=_environment())
        try:
            until_s = monotonic() + START_S
            while not _open(port):
                if server.poll() is not None or monotonic() > until_s:
                    sys.exit(f"{module} did not start:\n{Path(log.name).read_text()[-2000:]}")
                sleep(0.1)
            yield
        finally:
            server.terminate()
            server.wait()


def _came_back(trace: Trace, run: Run, seen: list[Seen], ahead_s: float, exact: bool) -> dict[str, Any]:
    calls = list(trace.calls)
    found = _matched(calls, seen)
    order = wrong = 0
    for workflow in trace.workflows:
        for node in ours.calls_alone(workflow):
            for source in node.sources:
                if node.id in found and source in found:
                    order += 1
                    wrong += found[node.id].began_s < found[source].ended_s
    return {
        "`ahead_gap_s`": f"{ahead_s:g}",
        "exact lengths asked for behind Parrot": "yes" if exact else "no",
        "calls of the trace": len(calls),
        "answered": sum(c.error is None for c in run.calls),
        "seen by the server behind Parrot": len(seen),
        "of them recognised": len(found),
        "submitted ahead": run.engine["parrot"]["submitted_ahead"],
        "edges between calls, and begun too early": f"{order}, {wrong}",
        "output tokens, recorded": sum(c.output_tokens or 0 for c in calls),
        "output tokens, seen": sum(s.output_tokens for s in seen),
        "calls whose output is as long as recorded": sum(found[c.id].output_tokens == c.output_tokens for c in calls),
        "prompt tokens, recorded": sum(c.prompt_tokens or 0 for c in calls),
        "prompt tokens, seen": sum(s.prompt_tokens for s in seen),
        "certificate": f"{run.certificate.tier}, {run.certificate.exact_calls} exact",
    }


def _matched(calls: Sequence[Call], seen: Sequence[Seen]) -> dict[str, Seen]:
    """What was seen of each call: of its beginning and its length, in the order in which they were due."""
    left, found = list(seen), {}
    for call in sorted(calls, key=lambda c: (c.submit_ns, c.id)):
        text = JOINT.join(str(m["content"]) for m in call.request["messages"])
        alike = [s for s in left if s.most_tokens == call.output_tokens and s.text[:100] == text[:100]]
        if alike:
            found[call.id] = next((s for s in alike if s.text == text), alike[0])
            left.remove(found[call.id])
    return found


def _theirs(nodes: Sequence[ours.Node]) -> dict[str, Any]:
    told = json.dumps([{"id": n.id, "prefix": n.prefix, "sources": n.sources} for n in nodes])
    command = [_python(), str(HERE / "stubs.py"), "decisions"]
    done = subprocess.run(command, input=told, capture_output=True, text=True, env=_environment(), check=False)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _compared(nodes: list[ours.Node], theirs: dict[str, Any]) -> None:
    said, rounds = theirs["calls"], ours.rounds(nodes)
    here = {node.id: ("throughput" if for_throughput(ours.pending(node)) else "latency") for node in nodes}
    joint = {node.id: {tuple(n.sources) for n in nodes if node.id in n.sources} for node in nodes}
    groups = {name: set(one["groups"]) for name, one in said.items()}
    pairs = list(combinations([node.id for node in nodes], 2))
    alike = sum(bool(groups[a] & groups[b]) == bool(joint[a] & joint[b]) for a, b in pairs)
    same = sum(a == b for a, b in zip(rounds, theirs["rounds"], strict=True))
    before = sum(_before(nodes, node) == said[node.id]["depth"] for node in nodes)
    after = sum(_after(nodes, node) == node.outlook.path_calls for node in nodes)
    latency = _count(said, "latency"), sum(of == "latency" for of in here.values())
    _table([
        ("", "Parrot", "`--policy parrot`"),
        ("calls", len(nodes), len(nodes)),
        ("of them for latency", *latency),
        ("pairs of calls that are of one task group, or are not, in both", f"{alike:,} of {len(pairs):,}", ""),
        ("rank is the number of calls on the longest way to it", f"{before} of {len(nodes)}", ""),
        ("rank is the number of calls on the longest way from it", "", f"{after} of {len(nodes)}"),
        ("steps in which calls go out", *(sum(map(bool, r)) for r in (theirs["rounds"], rounds))),
        ("most calls of a step", *(max(map(len, r)) for r in (theirs["rounds"], rounds))),
        ("steps with the same calls", f"{same} of {len(rounds)}", ""),
    ])  # fmt: skip


def _before(nodes: Sequence[ours.Node], node: ours.Node) -> int:
    by_id = {one.id: one for one in nodes}
    return 1 + max((_before(nodes, by_id[source]) for source in node.sources), default=0)


def _after(nodes: Sequence[ours.Node], node: ours.Node) -> int:
    return 1 + max((_after(nodes, one) for one in nodes if node.id in one.sources), default=0)


def _count(said: dict[str, Any], objective: str) -> int:
    return sum(one["objective"] == objective for one in said.values())


def _table(rows: Sequence[Sequence[Any]]) -> None:
    head, *others = [[f"{v:,}" if isinstance(v, int) else str(v) for v in row] for row in rows]
    print("\n".join(f"| {' | '.join(row)} |" for row in (head, ["---", *["--:"] * (len(head) - 1)], *others)))
    print()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def _open(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def _python() -> str:
    return os.environ.get("PARROT_PYTHON", sys.executable)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.environ["PARROT"], "SIMULATE_NETWORK_LATENCY_PRT": "0"}


def _commit(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "log", "-1", "--format=%h of %cs"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
