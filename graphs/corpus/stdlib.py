"""The documentation inside Python's standard library, as a corpus.

Its docstrings come under the PSF licence with every Python, so nothing is shipped or fetched. The text depends on
the Python version and on nothing else of the machine: signatures, values and paths stay out, addresses are masked.
A trace holds its prompts verbatim, so a replay does not need the corpus it was recorded from.
"""

from __future__ import annotations

import inspect
import re
import sys
import warnings
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

from rejoule.graphs.corpus.document import Document
from rejoule.traces.errors import RejouleError

# Modules with plenty of prose that every platform's Python has.
MODULES = (
    "argparse", "ast", "asyncio", "calendar", "cmd", "codecs", "collections", "concurrent.futures", "configparser",
    "contextlib", "copy", "csv", "datetime", "decimal", "difflib", "dis", "email.message", "enum", "fileinput",
    "fractions", "functools", "hashlib", "heapq", "hmac", "html.parser", "http.client", "http.cookies",
    "http.server", "inspect", "io", "ipaddress", "itertools", "json", "locale", "logging", "logging.handlers",
    "mailbox", "math", "multiprocessing.pool", "optparse", "pathlib", "pdb", "pickle", "pickletools", "platform",
    "plistlib", "pprint", "profile", "queue", "random", "re", "sched", "secrets", "shelve", "shlex", "smtplib",
    "socket", "sqlite3", "ssl", "statistics", "string", "struct", "subprocess", "tarfile", "tempfile", "textwrap",
    "threading", "timeit", "tokenize", "traceback", "typing", "unittest", "unittest.mock", "urllib.parse",
    "urllib.request", "uuid", "wave", "weakref", "xml.dom.minidom", "xml.etree.ElementTree", "zipfile",
)  # fmt: skip


def documents() -> tuple[Document, ...]:
    """A document a module; a Python built without one of them gives one document less."""
    if sys.flags.optimize > 1:
        raise RejouleError("Python was told to drop docstrings", "run it without -OO, or pass --documents FOLDER")
    with warnings.catch_warnings():
        # Looking at what a later Python will remove is no use of it.
        warnings.simplefilter("ignore", DeprecationWarning)
        return tuple(document for name in MODULES if (document := _document(name)))


def _document(name: str) -> Document | None:
    try:
        module = import_module(name)
    except ImportError:
        return None
    paragraphs = [f"{heading}\n\n{text}" for heading, text in _entries(name, module)]
    if not paragraphs:
        return None
    title = f"The {name} module"
    return Document(name, title, re.sub(r"0x[0-9a-fA-F]{6,}", "0x...", "\n\n".join([title, *paragraphs])))


def _entries(name: str, module: ModuleType) -> Iterator[tuple[str, str]]:
    """The module's own docstring, then that of every public class, method and function, by name."""
    if text := inspect.getdoc(module):
        yield name, text
    for key in sorted(getattr(module, "__all__", None) or _defined(name, module)):
        thing = getattr(module, key, None)
        if text := _own_doc(thing):
            yield f"{name}.{key}", text
        if inspect.isclass(thing):
            for member in sorted(key for key in vars(thing) if not key.startswith("_")):
                if text := _own_doc(vars(thing)[member]):
                    yield f"{name}.{key}.{member}", text


def _defined(name: str, module: ModuleType) -> list[str]:
    things = vars(module).items()
    return [key for key, thing in things if key[0] != "_" and getattr(thing, "__module__", None) == name]


def _own_doc(thing: object) -> str:
    """A docstring of the thing's own: a plain value would answer with its type's."""
    if not (inspect.isclass(thing) or inspect.isroutine(thing) or isinstance(thing, property)):
        return ""
    return inspect.cleandoc(thing.__doc__ or "")
