"""Where no jail can be had, nothing runs unless that is asked for by name, and it is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.graphs.tools.conftest import Worker


@pytest.mark.parametrize("kind", ["forbidden", "container"])
def test_nothing_runs_without_the_jail_it_should_have(
    worker: Callable[[str], Worker], outside: dict[str, object], kind: str
) -> None:
    """The refusal is one line, with the kernel's reason and what to do; asked for by name, the code runs."""
    code = f"open({outside['folder']!r} + '/ran', 'w').close(); print('ran')"
    refused = worker(kind).run(code)
    assert "cannot be jailed here: namespaces refused" in refused["error"]
    assert "sandbox=off" in refused["error"] and "\n" not in refused["error"]
    ran = worker(kind).run(code, jailed=False)
    assert (ran["output"], ran["jailed"], ran["passed"]) == ("ran\n", False, True)


@pytest.mark.parametrize("kind", ["forbidden", "container"])
def test_limits_hold_without_a_jail(worker: Callable[[str], Worker], kind: str) -> None:
    """Of time and of memory together, and what left the session ends too."""
    code = "import os, time\nif os.fork() == 0:\n    os.setsid()\ntime.sleep(60)"
    assert worker(kind).run(code, jailed=False, wall_s=0.5)["reason"] == "time limit"
    grow = "import os, time\nfor _ in range(4):\n    if os.fork() == 0:\n        x = b'y' * (60 << 20)\ntime.sleep(9)"
    assert worker(kind).run(grow, jailed=False, memory_bytes=150 << 20)["reason"] == "memory limit"
