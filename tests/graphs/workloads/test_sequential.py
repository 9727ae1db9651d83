"""Summarisation by chain and by map-reduce."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.graphs.workloads.conftest import Bench


async def test_a_chain_reads_one_chunk_after_the_other(bench: Bench) -> None:
    """Each step sees the summary of the step before it, and nothing else runs."""
    script = {"text": ["First.", "Second.", "Third."]}
    results, ran = await bench.run("sequential", script, mode="chain", chunks=3, chunk_tokens=100)
    assert ran == ["refine"] * 3
    assert "Nothing yet" in bench.model.prompts("text")[0]
    assert "First." in bench.model.prompts("text")[1]
    assert "Second." in bench.model.prompts("text")[2]
    assert [result["text"].endswith(": Third.") for result in results] == [True]


async def test_map_reduce_builds_a_tree(bench: Bench) -> None:
    """Five chunks with a fan-in of 2 are mapped at once, then reduced 3, 2, 1."""
    script = {"text": [f"S{number}." for number in range(1, 12)]}
    sizes: dict[str, Any] = {"mode": "map-reduce", "chunks": 5, "chunk_tokens": 80, "fan_in": 2}
    results, ran = await bench.run("sequential", script, **sizes)
    reduces = [["reduce"] * 3, ["gather"], ["reduce"] * 2, ["gather"], ["reduce"], ["gather"]]
    assert ran == ["map"] * 5 + ["gather"] + [node for level in reduces for node in level]
    assert len(results) == 1
    assert results[0]["text"].endswith(": S11.")


async def test_one_chunk_needs_no_reduce(bench: Bench) -> None:
    """A document of a single chunk is mapped and done."""
    results, ran = await bench.run("sequential", {}, mode="map-reduce", chunks=1)
    assert ran == ["map", "gather"]
    assert len(results) == 1


async def test_both_modes_take_turns(bench: Bench) -> None:
    """By default even workflows are chains and odd ones map-reduce."""
    _, even = await bench.run("sequential", {}, index=0, chunks=2, chunk_tokens=100)
    _, odd = await bench.run("sequential", {}, index=1, chunks=2, chunk_tokens=100)
    assert (even[0], odd[0]) == ("refine", "map")


async def test_chunks_that_the_document_lacks_are_not_read(bench: Bench) -> None:
    """Where every document is too short, all of its chunks are read."""
    _, ran = await bench.run("sequential", {}, mode="chain", chunks=50, chunk_tokens=200)
    assert 1 < len(ran) < 5
