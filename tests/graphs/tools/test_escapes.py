"""Nothing of the machine can be reached from a jail, by root's programs or by a user's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.graphs.tools.escapes import ESCAPES, Escape

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.graphs.tools.conftest import Worker

EACH = [pytest.param(escape, id=f"{escape.promise}: {escape.name}") for escape in ESCAPES]


@pytest.mark.parametrize("escape", EACH)
def test_no_escape(jailer: Worker, outside: dict[str, object], escape: Escape) -> None:
    """Each fails, and by what is told: it was tried."""
    ran = jailer.run(escape.program(outside))
    assert ran.get("jailed") and ran["output"].startswith("held "), ran
    assert "NameError" not in ran["output"] and "SyntaxError" not in ran["output"]


@pytest.mark.parametrize("escape", [each for each in EACH if each.values[0].open])  # type: ignore[union-attr]
def test_without_a_jail_it_escapes(worker: Callable[[str], Worker], outside: dict[str, object], escape: Escape) -> None:
    """So what holds it above is the jail, and no mistake of the test's."""
    ran = worker("user").run(escape.program(outside), jailed=False)
    assert ran["output"].startswith("escaped"), ran
