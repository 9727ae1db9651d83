"""Reading older formats: one function for each step from a version to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from rejoule.traces.errors import RejouleError
from rejoule.traces.model import FORMAT_VERSION
from rejoule.traces.run import RUN_FORMAT_VERSION

STEPS: Final[dict[int, Callable[[dict[str, Any]], dict[str, Any]]]] = {
    # Agents, several answers to one request, and what was not recorded: a first version says nothing of them.
    1: lambda header: header | {"format_version": 2},
    # Whether workflows reached their goal: a second version says nothing of it.
    2: lambda header: header | {"format_version": 3},
}
"""From format version to the function that turns its header into the next version's."""


RUN_STEPS: Final[dict[int, Callable[[dict[str, Any]], dict[str, Any]]]] = {
    # Readings told of all GPUs together: what each of them took stays unknown.
    1: lambda body: body | {"format_version": 2},
    # Digests of the file and of those beside it: there are none to be checked.
    2: lambda body: body | {"format_version": 3},
    # A call that did not find what was evicted from the prefix cache was a violation; evicted.py tells these apart.
    3: lambda body: body | {"format_version": 4},
}
"""The same for runs."""


def migrated_run(body: dict[str, Any], name: str) -> dict[str, Any]:
    """A run in today's format. Raises RejouleError for one that is too new."""
    version = body.get("format_version")
    if isinstance(version, int) and version > RUN_FORMAT_VERSION:
        raise RejouleError(f"{name} has format version {version}", "please update: pip install -U rejoule")
    for step in range(version if isinstance(version, int) else 1, RUN_FORMAT_VERSION):
        body = RUN_STEPS[step](body)
    return body


def migrated(header: dict[str, Any], name: str) -> dict[str, Any]:
    """The header in today's format. Raises RejouleError for a file that is too new."""
    version = header.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise RejouleError(f"{name} has no format version", "it is not a ReJoule trace")
    if version > FORMAT_VERSION:
        raise RejouleError(
            f"{name} has format version {version}, and this ReJoule reads up to {FORMAT_VERSION}",
            "please update: pip install -U rejoule",
        )
    for step in range(version, FORMAT_VERSION):
        header = STEPS[step](header)
    return header
