"""Full-text search."""

from __future__ import annotations

import pytest

from rejoule.graphs.corpus import Corpus
from rejoule.graphs.tools.search import SearchIndex, search_tool


def test_the_best_passage_comes_first() -> None:
    """A real question to the real corpus finds its document."""
    index = SearchIndex(Corpus.standard_library())
    assert index.search("parse command line arguments of subparsers", 3)[0].document_id in ("argparse", "optparse")
    assert index.search("priority queue heap invariant", 3)[0].document_id == "heapq"
    assert len(index.search("the", 5)) == 5


@pytest.mark.parametrize("query", ["", "?!", "   "])
def test_a_query_without_words_finds_nothing(corpus: Corpus, query: str) -> None:
    """It is no error."""
    assert SearchIndex(corpus).search(query, 3) == []


@pytest.mark.parametrize("query", ['bees" OR "', "NOT bees", "bees AND (", "title:bees*", "bees NEAR bees", "bees\x00"])
def test_no_query_is_an_error(corpus: Corpus, query: str) -> None:
    """What a model writes is words, never operators."""
    assert SearchIndex(corpus).search(query, 1)[0].document_id == "bees"


async def test_the_tool_answers_with_passages(corpus: Corpus) -> None:
    """Ids and texts, best first, within the limit."""
    tool = search_tool(SearchIndex(corpus, passage_tokens=50), 2)
    passages = await tool.ainvoke({"query": "lantern"})
    assert [passage["id"] for passage in passages] == ["lanterns#1", "lanterns#2"]
    assert "lanterns" in passages[0]["text"]
