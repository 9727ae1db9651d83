from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
PACKAGES = ("graphs", "traces", "replay", "analysis")
WHOLE = {".src/rejoule/", "tests/", "benchmarks/", "docs/", "examples/"}
"""Folders whose insides the map leaves to themselves; so are, in packages, the ones below."""
INSIDE = ("replay/profiles/", "replay/vllm/injected/")


def folders() -> set[str]:
    """Every folder of a package that holds a file."""
    files = (f for package in PACKAGES for f in (ROOT / package).rglob("*") if f.is_file())
    found = {f"{f.parent.relative_to(ROOT).as_posix()}/" for f in files if "__pycache__" not in f.parts}
    return {next((top for top in INSIDE if folder.startswith(top)), folder) for folder in found}


def test_the_map_names_every_folder_and_no_other() -> None:
    """CONTRIBUTING lists the folders that exist."""
    named = re.findall(r"^\| `([^`]+/)` \|", PAGE, re.MULTILINE)
    assert len(named) == len(set(named))
    assert set(named) == folders() | WHOLE
    assert all((ROOT / folder).is_dir() for folder in named)


def test_every_file_that_the_walks_pass_exists() -> None:
    """CONTRIBUTING speaks of files that are there."""
    paths = re.findall(r"`([a-z_./]+\.(?:py|md|toml))`", PAGE)
    assert paths
    assert [path for path in paths if not (ROOT / path).is_file()] == []
