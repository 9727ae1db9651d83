"""Finding workloads, setting their sizes, and drawing their inputs."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields

import pytest

from rejoule.graphs.corpus import Corpus
from rejoule.graphs.workloads import WORKLOADS, load, settings_from
from rejoule.traces.errors import RejouleError


@pytest.mark.parametrize("name", WORKLOADS)
def test_inputs_are_seeded(name: str, corpus: Corpus) -> None:
    """Equal arguments give equal inputs; another seed or number gives another input."""
    workload = load(name)
    settings = workload.settings()
    first = workload.inputs(settings, corpus, 1, 2)
    assert first == workload.inputs(settings, corpus, 1, 2)
    assert first != workload.inputs(settings, corpus, 2, 2)
    assert first != workload.inputs(settings, corpus, 1, 4)


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_setting_says_what_it_means(name: str) -> None:
    """Help texts can be made from the settings."""
    assert all(spec.metadata["meaning"] for spec in fields(load(name).settings))


def test_settings_are_read_from_text() -> None:
    """Words become the types of the defaults; what is not named keeps its default."""
    settings = settings_from(load("interactive"), {"turns": "7", "think_time_s": "0.25"})
    assert (settings.turns, settings.think_time_s, settings.searches) == (7, 0.25, 2)


def test_the_composite_takes_the_settings_of_its_parts() -> None:
    """One flat list of names sets all sizes."""
    settings = settings_from(load("composite"), {"turns": "2", "chunks": "3", "engineers": "1", "branches": "2"})
    assert (settings.turns, settings.chunks, settings.engineers, settings.branches) == (2, 3, 1, 2)


@pytest.mark.parametrize(
    ("name", "text", "remedy"),
    [
        ("turn", "4", "turns, searches"),
        ("turns", "four", "a whole number"),
        ("turns", "0", "at least 1"),
        ("think_time_s", "-1", "at least 0"),
        ("think_time_s", "inf", "at least 0"),
        ("think_time_s", "nan", "at least 0"),
    ],
)
def test_wrong_settings_are_refused(name: str, text: str, remedy: str) -> None:
    """The error says what would be right."""
    with pytest.raises(RejouleError) as caught:
        settings_from(load("interactive"), {name: text})
    assert remedy in caught.value.remedy


def test_a_tree_must_narrow() -> None:
    """A fan-in of 1 would reduce forever."""
    with pytest.raises(RejouleError, match="at least 2"):
        settings_from(load("sequential"), {"fan_in": "1"})


def test_words_outside_the_choices_are_refused() -> None:
    """A mode is one of three."""
    with pytest.raises(RejouleError, match="chain, map-reduce"):
        settings_from(load("sequential"), {"mode": "star"})


def test_an_unknown_workload_is_refused() -> None:
    """The error lists the names."""
    with pytest.raises(RejouleError, match="sequential, interactive, agentic, composite"):
        load("chat")


def test_listing_workloads_loads_none() -> None:
    """The names come without LangGraph and without the OpenAI client."""
    code = (
        "import sys; sys.path.insert(0, '.src'); from rejoule.graphs.workloads import WORKLOADS; "
        "sys.exit('langgraph' in sys.modules or 'openai' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
