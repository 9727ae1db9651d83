"""Findings as files: those that come with ReJoule, and those of users."""

from __future__ import annotations

from pathlib import Path

import pytest

from rejoule.analysis.findings.finding import read, read_all, shipped
from rejoule.traces.errors import RejouleError

GOOD = """\
id = "mine"
claim = "It saves."
source = "me"
test = "ends"
knob = "max_num_seqs"
from = "least"
to = "most"
metric = "energy per workflow"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_each_shipped_finding_is_called_as_its_file(tmp_path: Path) -> None:
    """Ids are the files' names, so that nobody has to look for one."""
    from rejoule.analysis.findings.finding import shipped_paths

    assert [finding.id for finding in shipped()] == [path.stem for path in shipped_paths()]
    assert read(written(tmp_path, GOOD)).to == "most"


@pytest.mark.parametrize(
    ("spoilt", "what"),
    [
        (GOOD.replace('id = "mine"\n', ""), "missing required field `id`"),
        (GOOD.replace('"mine"', '"Not One"'), "id"),
        (GOOD.replace('"ends"', '"guess"'), "guess"),
        (GOOD.replace('"energy per workflow"', '"joy"'), "no metric is called 'joy'"),
        (GOOD.replace('"max_num_seqs"', '"batch"'), "no knob is called 'batch'"),
        (GOOD + "[where.knobs]\ncap = 3\n", "no knob is called 'cap'"),
        (GOOD.replace('to = "most"\n', ""), "the test 'ends' needs to"),
        (GOOD + "sessions = [2.0, 4.0]\n", "no use for sessions"),
        (GOOD.replace('"ends"', '"optimum"') + "sessions = [4.0, 2.0]\n", "no use for from"),
        (GOOD + "by_most = 0.01\n", "by_most is not above by_least"),
        (GOOD + "by_least = 2.0\n", "by_least"),
        (GOOD + "colour = 3\n", "colour"),
        (GOOD + "[where]\nshape = 'round'\n", "shape"),
        (GOOD + "[where]\nknobs = 3\n", "knobs"),
        (GOOD.replace('"ends"', '"interaction"'), "needs than"),
        ("id = [", "mine.toml: "),
        ("a = " + "[" * 3000, "nested too deeply"),
        ("", "missing required field"),
    ],
)
def test_a_spoilt_file_ends_in_one_line(tmp_path: Path, spoilt: str, what: str) -> None:
    """What is wrong is named with the file, in one line, and so is what to do."""
    with pytest.raises(RejouleError) as error:
        read(written(tmp_path, spoilt))
    assert what in error.value.what and str(tmp_path / "mine.toml") in error.value.what
    assert "\n" not in error.value.what and error.value.remedy


def test_files_that_are_none(tmp_path: Path) -> None:
    """A missing file, a folder, bytes that are no text, and a second finding of one id are refused."""
    for path in (tmp_path / "missing.toml", tmp_path):
        with pytest.raises(RejouleError, match="cannot read"):
            read(path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RejouleError, match="binary"):
        read(tmp_path / "binary.toml")
    path = written(tmp_path, GOOD)
    with pytest.raises(RejouleError, match="is there already"):
        read_all([path, path])
