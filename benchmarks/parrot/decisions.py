"""What Parrot's own scheduler decides on a DAG: run by `stubs` in Parrot's environment, JSON in and out.

In: calls in topological order, each with ``id``, ``prefix`` and the ``sources`` whose answers it takes. Out: by call
its objective, depth and task groups; and the rounds in which calls are dispatched, where in each the call that was
dispatched first of those in flight ends. All four of the scheduler's flags are on; there is one engine.
"""

from __future__ import annotations

import json
import logging
import sys
from types import SimpleNamespace
from typing import Any

from parrot.engine.config import EngineConfig
from parrot.serve.backend_repr import ExecutionEngine
from parrot.serve.graph import ComputeGraph, PerformanceCriteria, RequestChain, activate_sv
from parrot.serve.graph.call_request import ChunkedSemanticCallRequest
from parrot.serve.scheduler import GlobalScheduler, GlobalSchedulerConfig, TaskCreator
from parrot.serve.variable_manager import SemanticVariableManager

SESSION = 0


def payload(call: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
    sources = [{"name": f"s{i}", "is_output": False, "var_id": variables[s].id} for i, s in enumerate(call["sources"])]
    places = "".join("{{" + p["name"] + "}}" for p in sources)
    answer = {"name": "answer", "is_output": True, "sampling_config": {"max_gen_length": 1}}
    return {
        "template": f"{call['prefix']} {places}{{{{answer}}}}",
        "parameters": [*sources, answer],
        "models": [],
        "model_type": "text",
    }


def main() -> None:
    logging.disable(logging.INFO)
    calls = json.load(sys.stdin)
    manager, graph = SemanticVariableManager(constant_prefix_var_timeout=600), ComputeGraph()
    manager.register_local_var_space(SESSION)
    chains: dict[str, Any] = {}
    variables: dict[str, Any] = {}
    for number, call in enumerate(calls):
        request = ChunkedSemanticCallRequest.parse_from_payload(number, SESSION, payload(call, variables))
        request_chain = RequestChain.from_chunked_request(request)
        manager.create_vars_for_semantic_request_chain(SESSION, request_chain)
        graph.insert_and_update_request_chain(request_chain)
        chains[call["id"]] = request_chain.comp_chains[-1]
        variables[call["id"]] = chains[call["id"]].gen_node.sv
    needed = {source for call in calls for source in call["sources"]}
    for call in calls:
        if call["id"] not in needed:
            activate_sv(variables[call["id"]], PerformanceCriteria.LATENCY)
    groups: dict[int, int] = {}
    said = {
        name: {
            "objective": variables[name].criteria.name.lower(),
            "depth": variables[name].depth,
            "groups": [groups.setdefault(id(group), len(groups)) for group in chain.chain_groups],
        }
        for name, chain in chains.items()
    }
    json.dump({"calls": said, "rounds": rounds(calls, chains)}, sys.stdout)


def rounds(calls: list[dict[str, Any]], chains: dict[str, Any]) -> list[list[str]]:
    engine = ExecutionEngine.from_engine_config(0, EngineConfig(engine_type="openai"))
    manager = SimpleNamespace(get_live_engines=lambda: [engine])
    contexts = SimpleNamespace(query_prefixes_in_engines=lambda task: [])
    flags = GlobalSchedulerConfig(app_fifo=True, graph_group=True, ctx_group=True, ctx_aware=True)
    scheduler, creator = GlobalScheduler(flags, manager, contexts), TaskCreator()
    tasks: dict[str, Any] = {}
    ended: set[str] = set()
    flying: list[str] = []
    found = []
    while len(ended) < len(calls):
        for call in calls:
            if call["id"] not in tasks and ended.issuperset(call["sources"]):
                tasks[call["id"]] = creator.create_task(chains[call["id"]])
                scheduler.submit_task(tasks[call["id"]])
        queue = list(scheduler.task_queue)
        scheduler.schedule()
        names = {id(task): name for name, task in tasks.items()}
        sent = [names[id(task)] for task in queue if task.is_scheduled]
        found.append(sorted(sent))
        flying += sorted(sent)
        if not flying:
            break
        first = flying.pop(0)
        creator.free_task(tasks[first])
        ended.add(first)
    return found


if __name__ == "__main__":
    main()
