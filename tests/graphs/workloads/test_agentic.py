"""The team that programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rejoule.graphs.workloads.agentic import _importable

if TYPE_CHECKING:
    from tests.graphs.workloads.conftest import Bench, Script

PLAN = {"modules": [{"name": "numerals", "purpose": "reads"}, {"name": "printing", "purpose": "writes"}]}
GOOD = {"code": 'def one():\n    """\n    >>> one()\n    1\n    """\n    return 1\n'}
WRONG = {"code": GOOD["code"].replace("return 1", "return 2")}
BROKEN = {"code": "def one(:"}
APPROVE = {"verdict": "approve", "comments": "fine"}
REVISE = {"verdict": "revise", "comments": "handle zero"}


async def test_the_team_works_until_the_tests_pass(bench: Bench) -> None:
    """Two rounds fail for two reasons, each is told to the engineers, and the third passes."""
    script: Script = {"plan": [PLAN], "module": [GOOD, WRONG, GOOD, BROKEN, GOOD, GOOD], "review": [APPROVE]}
    results, ran = await bench.run("agentic", script, rounds=5)
    assert ran == ["product_manager", "architect"] + ["engineer", "engineer", "reviewer", "tester"] * 3
    tasks = bench.model.prompts("module")
    assert "Expected:\n    1\nGot:\n    2" in tasks[2]
    assert "SyntaxError" in tasks[4]
    assert [result["text"].endswith("The tests pass.") for result in results] == [True]


async def test_the_reviewer_can_ask_for_a_revision(bench: Bench) -> None:
    """A revision skips the test, and its comment reaches every engineer."""
    script: Script = {"plan": [PLAN], "module": [GOOD], "review": [REVISE, APPROVE]}
    _, ran = await bench.run("agentic", script)
    assert ran[2:] == ["engineer", "engineer", "reviewer", "engineer", "engineer", "reviewer", "tester"]
    assert all("handle zero" in task for task in bench.model.prompts("module")[2:])


async def test_rounds_end(bench: Bench) -> None:
    """A reviewer who is never content and code that never works end after the last round, tested."""
    script: Script = {"plan": [PLAN], "module": [BROKEN], "review": [REVISE]}
    results, ran = await bench.run("agentic", script, rounds=2)
    assert ran[2:] == ["engineer", "engineer", "reviewer"] * 2 + ["tester"]
    assert "The tests fail (exit code 1)" in results[0]["text"]


@pytest.mark.parametrize("garbage", ["", "[]", '{"modules": [{"name": "x"', '{"code": "\\ud800"}', "null"])
async def test_garbage_ends_too(bench: Bench, garbage: str) -> None:
    """Unreadable plans become one module, unreadable code is missed by the tests, unreadable verdicts are no veto."""
    script: Script = {name: [garbage] for name in ("plan", "module", "review")}
    results, ran = await bench.run("agentic", script, rounds=2)
    assert ran[2:] == ["engineer", "reviewer", "tester"] * 2
    assert "No module named 'program'" in results[0]["text"]


async def test_a_delivery_that_cannot_be_read_keeps_the_one_before(bench: Bench) -> None:
    """The engineer is shown the last version that was delivered."""
    script: Script = {"plan": [PLAN], "module": [GOOD, GOOD, "garbage"], "review": [REVISE, APPROVE]}
    results, _ = await bench.run("agentic", script)
    assert "return 1" in bench.model.prompts("module")[2]
    assert results[0]["text"].endswith("The tests pass.")


async def test_code_that_hangs_fails_in_time(bench: Bench) -> None:
    """The time limit is a setting."""
    script: Script = {"plan": [PLAN], "module": [{"code": "while True: pass"}], "review": [APPROVE]}
    results, _ = await bench.run("agentic", script, rounds=1, test_time_s=0.5)
    assert "The tests fail (time limit)" in results[0]["text"]


async def test_code_is_asked_for_as_python(bench: Bench) -> None:
    """The schema names the media type and bounds the length by the setting."""
    await bench.run("agentic", {"plan": [PLAN], "module": [GOOD], "review": [APPROVE]}, code_tokens=50)
    body = next(body for name, body in bench.model.asked if name == "module")
    code = body["response_format"]["json_schema"]["schema"]["properties"]["code"]
    assert code == {"type": "string", "minLength": 1, "maxLength": 200, "contentMediaType": "text/x-python"}


def test_planned_names_become_importable() -> None:
    """Names are made identifiers, hide no library, and stay apart."""
    names = ["Roman Numerals", "json", "module_2", "class", "a.py", "a", "3d", "été"]
    modules = _importable([{"name": name, "purpose": ""} for name in names])
    assert [module["name"] for module in modules] == [
        "roman_numerals", "module_2", "module_2_", "module_4", "a", "a_", "module_7", "_t_",
    ]  # fmt: skip
