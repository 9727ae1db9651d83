"""A tool that imports modules and runs their doctests, in a jail or without one."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool

from rejoule.graphs.tools.sandbox import Limits, run_program
from rejoule.graphs.tools.walls import ON, jailed

# No module's name can hide the script's, for it is no identifier.
SCRIPT = "run-doctests.py"
PROGRAM = """\
import doctest, importlib, sys

sys.path.insert(0, ".")
failed = 0
for name in sys.argv[1:]:
    failed += doctest.testmod(importlib.import_module(name)).failed
sys.exit(failed > 0)
"""


def doctest_tool(limits: Limits, sandbox: str = ON) -> BaseTool:
    """The tool: sources by module name, and the names that must be there; answers with a ``SandboxResult``.

    Raises RejouleError where ``sandbox`` wants a jail that cannot be had.
    """
    inside = jailed(sandbox)

    async def run_doctests(modules: dict[str, str], expected: list[str]) -> dict[str, Any]:
        """Imports the expected modules and runs their doctests."""
        files = {f"{name}.py": source for name, source in modules.items()}
        return asdict(await run_program({**files, SCRIPT: PROGRAM}, [SCRIPT, *expected], limits, jailed=inside))

    return StructuredTool.from_function(coroutine=run_doctests, name="run_doctests")
