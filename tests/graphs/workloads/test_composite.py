"""The planner, its subgraphs, and the joiner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.graphs.workloads.conftest import Bench, Script

SMALL: dict[str, Any] = {"chunks": 2, "chunk_tokens": 100, "turns": 1, "searches": 1, "rounds": 1, "mode": "chain"}


def branch(workflow: str, brief: str) -> dict[str, str]:
    """A part of a plan."""
    return {"workflow": workflow, "brief": brief}


async def test_the_planner_chooses_two_of_three(bench: Bench) -> None:
    """Only the chosen subgraphs run, each with its brief, and the joiner sees the results of both."""
    plan = {"branches": [branch("sequential", "ferries"), branch("interactive", "How cold are glaciers?")]}
    script: Script = {"plan": [plan], "decision": ["unreadable"]}
    results, ran = await bench.run("composite", script, **SMALL)
    assert ran[0] == "planner"
    assert ran[-1] == "joiner"
    assert sorted(ran[1:-1]) == sorted(
        ["refine", "refine", "sequential", "person", "decide", "search", "answer", "interactive"]
    )
    assert [result["workload"] for result in results] == ["sequential", "interactive", "composite"]
    assert results[0]["text"].startswith("All about ferries:")
    assert "How cold are glaciers?" in bench.model.prompts("decision")[0]
    joining = bench.model.prompts("text")[-1]
    assert "Result of sequential" in joining
    assert "Result of interactive" in joining


async def test_one_workload_may_run_several_times_at_once(bench: Bench) -> None:
    """The same subgraph runs side by side without mixing its states."""
    plan = {"branches": [branch("sequential", topic) for topic in ("bees", "glaciers", "lanterns")]}
    results, _ = await bench.run("composite", {"plan": [plan]}, **SMALL)
    assert [result["text"].split(":")[0] for result in results[:-1]] == [
        "All about bees", "All about glaciers", "All about lanterns",
    ]  # fmt: skip


async def test_a_plan_that_cannot_be_read_runs_one_of_each(bench: Bench) -> None:
    """The request itself is the brief of all three."""
    results, _ = await bench.run(
        "composite", {"plan": ["gar"], "decision": ["b"], "module": ["a"], "review": ["g"]}, **SMALL
    )
    assert [result["workload"] for result in results] == ["sequential", "interactive", "agentic", "composite"]


async def test_a_brief_that_matches_nothing_still_finds_a_document(bench: Bench) -> None:
    """A drawn document takes the place of the one that was not found."""
    plan = {"branches": [branch("sequential", "zzz"), branch("sequential", "???")]}
    results, _ = await bench.run("composite", {"plan": [plan]}, **SMALL)
    assert len(results) == 3
