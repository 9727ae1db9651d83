"""What measures ReJoule itself: ``python -m benchmarks.MODULE``, a module a question. README.md lists them.

``--help`` is answered here, before a module is imported: with its docstring, which says how it is called. A module that
parses its words with a library says it itself, with its options.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

PARSERS: Final = ("ArgumentParser(", "@click.command(")


def usage(words: Sequence[str]) -> str | None:
    """What ``python -m MODULE --help`` is to print, given Python's own words; ``None`` where it is not asked for."""
    at = words.index("-m") + 1 if "-m" in words else len(words)
    if words[at + 1 : at + 2] not in (["-h"], ["--help"]):
        return None
    place = Path(__file__).parent.joinpath(*words[at].split(".")[1:])
    file = next((f for f in (place.with_suffix(".py"), place / "__main__.py") if f.is_file()), None)
    text = "" if file is None else file.read_text()
    return None if any(parser in text for parser in PARSERS) else ast.get_docstring(ast.parse(text))


# While Python looks for the module that it is to run, the first word is not yet its file.
if sys.argv[:1] == ["-m"] and (said := usage(sys.orig_argv)) is not None:
    print(said)
    sys.exit()
