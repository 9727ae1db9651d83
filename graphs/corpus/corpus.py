"""Documents with ids, in a fixed order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rejoule.graphs.corpus.document import Document
from rejoule.traces.errors import RejouleError

SUFFIXES = (".txt", ".md", ".rst")


@dataclass(frozen=True)
class Corpus:
    """At least one document, each with an id of its own."""

    documents: tuple[Document, ...]

    def __post_init__(self) -> None:
        if not self.documents:
            raise RejouleError("the corpus holds no document", "give it at least one")
        if len({document.id for document in self.documents}) != len(self.documents):
            raise RejouleError("two documents of the corpus share an id", "give each its own")

    def __getitem__(self, id: str) -> Document:
        return next(document for document in self.documents if document.id == id)

    @classmethod
    def standard_library(cls) -> Corpus:
        """The documentation that ships inside Python's own standard library."""
        from rejoule.graphs.corpus.stdlib import documents

        return cls(documents())

    @classmethod
    def from_folder(cls, folder: str | Path) -> Corpus:
        """Every .txt, .md and .rst file under a folder, in the order of their paths."""
        folder = Path(folder)
        if not folder.is_dir():
            raise RejouleError(f"{folder} is not a folder", "name a folder of .txt, .md or .rst files")
        paths = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file())
        documents = tuple(document for path in paths if (document := _read(path, folder)).text)
        if not documents:
            raise RejouleError(f"{folder} holds no text", f"put files ending in {', '.join(SUFFIXES)} there")
        return cls(documents)


def _read(path: Path, folder: Path) -> Document:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise RejouleError(f"cannot read {path}: {error}", "make it readable UTF-8 text, or take it away") from error
    first_line = text.partition("\n")[0]
    return Document(path.relative_to(folder).as_posix(), first_line.strip("#*= \t")[:80] or path.stem, text)
