"""The modules that measure ReJoule say how they are called."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(path for path in (ROOT / "benchmarks").rglob("*.py") if path.name != "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_answers_help_with_its_docstring(path: Path) -> None:
    """Before it asks for words, data or libraries, and whether it parses its words or not."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    name = ".".join(part for part in parts if part != "__main__")
    told = subprocess.run([sys.executable, "-m", name, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    said = ast.get_docstring(ast.parse(path.read_text()))
    assert (told.returncode, told.stderr) == (0, "") and said
    assert " ".join(said.split()) in " ".join(told.stdout.split())
