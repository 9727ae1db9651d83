"""Profiles: what ships, and how a bad file is refused."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from rejoule.replay.sim.profile import FOLDER, load_profile, names
from rejoule.traces.errors import RejouleError


@pytest.mark.parametrize("name", names())
def test_shipped_profiles_load_and_name_their_sources(name: str) -> None:
    """Every shipped profile is complete, says where it comes from, and is honest about calibration."""
    profile = load_profile(name)
    assert profile.name == name
    assert profile.source
    assert profile.sources
    assert not profile.calibrated


def test_an_unknown_profile_names_those_there_are() -> None:
    """A misspelt name is answered with the list."""
    with pytest.raises(RejouleError, match=r"a100-llama-3\.1-8b, h200-llama-3\.1-8b"):
        load_profile("h300")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda p: p.pop("gpu"), "misses gpu"),
        (lambda p: p["power"].pop("knee"), "misses power.knee"),
        (lambda p: p["power"].update(watts=3), "unknown power.watts"),
        (lambda p: p["model"].update(layers="many"), "model.layers is not int"),
        (lambda p: p.update(timing=3), "timing"),
    ],
)
def test_a_spoilt_profile_is_refused_by_the_name_of_what_is_wrong(tmp_path: Path, spoil: object, says: str) -> None:
    """The error names the field."""
    raw = orjson.loads((FOLDER / "h200-llama-3.1-8b.json").read_bytes())
    spoil(raw)  # type: ignore[operator]
    path = tmp_path / "mine.json"
    path.write_bytes(orjson.dumps(raw))
    with pytest.raises(RejouleError, match=says):
        load_profile(str(path))


def test_a_profile_that_is_not_json_is_refused(tmp_path: Path) -> None:
    """A cut file is one clear error."""
    path = tmp_path / "mine.json"
    path.write_text('{"name": ')
    with pytest.raises(RejouleError, match="not JSON"):
        load_profile(str(path))
