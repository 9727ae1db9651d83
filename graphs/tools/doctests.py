"""A tool that imports modules and runs their doctests in the sandbox."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool

from rejoule.graphs.tools.sandbox import Limits, run_program

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


def doctest_tool(limits: Limits) -> BaseTool:
    """The tool: sources by module name, and the names that must be there; answers with a ``SandboxResult``."""

    async def run_doctests(modules: dict[str, str], expected: list[str]) -> dict[str, Any]:
        """Imports the expected modules and runs their doctests."""
        files = {f"{name}.py": source for name, source in modules.items()}
        return asdict(await run_program({**files, SCRIPT: PROGRAM}, [SCRIPT, *expected], limits))

    return StructuredTool.from_function(coroutine=run_doctests, name="run_doctests")
