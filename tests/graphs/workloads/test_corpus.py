"""Documents from the standard library, and from a folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rejoule.graphs.corpus import Corpus, Document, chunked
from rejoule.traces.errors import RejouleError


def test_the_standard_library_is_a_real_corpus() -> None:
    """It is long enough for the default sizes and holds nothing of this machine."""
    documents = Corpus.standard_library().documents
    text = "\n".join(document.text for document in documents)
    assert sum(len(document.text) > 8 * 400 * 4 for document in documents) >= 10
    assert len(text) > 400_000
    assert not re.search(r"0x[0-9a-f]{6,}", text)
    assert str(Path.home()) not in text
    assert sys.prefix not in text


def test_the_standard_library_reads_the_same_in_every_process() -> None:
    """Neither hash seeds nor addresses nor the environment show."""
    code = (
        "import sys, hashlib; sys.path.insert(0, '.src'); from rejoule.graphs.corpus import Corpus; "
        "print(hashlib.sha256(repr(Corpus.standard_library()).encode()).hexdigest())"
    )
    digests = {
        subprocess.check_output([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed, "LANG": seed})
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_a_folder_is_read_in_order(tmp_path: Path) -> None:
    """Ids are paths inside the folder, titles the first lines; other files and empty ones are left out."""
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "deep.md").write_text("# Deep things\n\nText.", encoding="utf-8")
    (tmp_path / "a.rst").write_text("Änderungen\n==========\n", encoding="utf-8")
    (tmp_path / "empty.txt").write_text(" \n", encoding="utf-8")
    (tmp_path / "code.py").write_text("pass", encoding="utf-8")
    corpus = Corpus.from_folder(tmp_path)
    assert [(document.id, document.title) for document in corpus.documents] == [
        ("a.rst", "Änderungen"),
        ("b/deep.md", "Deep things"),
    ]


def test_folders_without_text_are_refused(tmp_path: Path) -> None:
    """Missing, empty and unreadable ones each get one clear error."""
    with pytest.raises(RejouleError, match="is not a folder"):
        Corpus.from_folder(tmp_path / "missing")
    with pytest.raises(RejouleError, match="holds no text"):
        Corpus.from_folder(tmp_path)
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(RejouleError, match=r"cannot read .*latin\.txt"):
        Corpus.from_folder(tmp_path)


def test_ids_are_unique() -> None:
    """Two documents of one id cannot be told apart in citations."""
    with pytest.raises(RejouleError, match="share an id"):
        Corpus((Document("a", "", "x"), Document("a", "", "y")))


@pytest.mark.parametrize("tokens", [1, 7, 50, 10_000])
def test_chunks_keep_every_word(tokens: int) -> None:
    """Pieces are no longer than wanted, and together they are the text."""
    text = Corpus.standard_library()["json"].text
    pieces = chunked(text, tokens)
    assert max(map(len, pieces)) <= tokens * 4
    assert "".join("".join(pieces).split()) == "".join(text.split())
