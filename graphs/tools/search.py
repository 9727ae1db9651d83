"""Full-text search over a corpus: SQLite's FTS5 in memory, ranked by bm25."""

from __future__ import annotations

import re
import sqlite3
import weakref
from dataclasses import asdict, dataclass
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool

from rejoule.graphs.corpus import Corpus, chunked
from rejoule.traces.errors import RejouleError


@dataclass(frozen=True)
class Passage:
    """A piece of a document; ``id`` is the document's, ``#``, and the piece's number from 1."""

    id: str
    text: str

    @property
    def document_id(self) -> str:
        """The document it is from."""
        return self.id.rpartition("#")[0]


class SearchIndex:
    """Every passage of a corpus, searchable by words."""

    def __init__(self, corpus: Corpus, passage_tokens: int = 150) -> None:
        self._rows = sqlite3.connect(":memory:", check_same_thread=False)
        weakref.finalize(self, self._rows.close)
        try:
            self._rows.execute("CREATE VIRTUAL TABLE passage USING fts5(id UNINDEXED, title, text, tokenize='porter')")
        except sqlite3.OperationalError as error:
            raise RejouleError("this Python's SQLite has no full-text search", "use one built with FTS5") from error
        self._rows.executemany(
            "INSERT INTO passage VALUES (?, ?, ?)",
            (
                (f"{document.id}#{number}", document.title, text)
                for document in corpus.documents
                for number, text in enumerate(chunked(document.text, passage_tokens), start=1)
            ),
        )

    def search(self, query: str, limit: int) -> list[Passage]:
        """The passages that match any word of the query, best first; none for a query without words."""
        words = dict.fromkeys(re.findall(r"\w+", query.lower()))
        if not words:
            return []
        # Quoted, a word is never read as an operator of the query language.
        found = self._rows.execute(
            "SELECT id, text FROM passage WHERE passage MATCH ? ORDER BY bm25(passage), rowid LIMIT ?",
            (" OR ".join(f'"{word}"' for word in words), limit),
        )
        return [Passage(*row) for row in found]


def search_tool(index: SearchIndex, limit: int) -> BaseTool:
    """The index as a tool that answers ``{"query": ...}`` with passages."""

    async def search(query: str) -> list[dict[str, Any]]:
        """Searches the documentation and returns the best passages."""
        return [asdict(passage) for passage in index.search(query, limit)]

    return StructuredTool.from_function(coroutine=search, name="search")
