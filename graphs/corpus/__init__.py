"""The documents that workflows read: a real corpus found on every machine, or a folder of the user's own."""

from rejoule.graphs.corpus.chunks import CHARS_PER_TOKEN, chunked
from rejoule.graphs.corpus.corpus import Corpus
from rejoule.graphs.corpus.document import Document

__all__ = ["CHARS_PER_TOKEN", "Corpus", "Document", "chunked"]
