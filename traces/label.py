"""Whether recorded workflows reached their goal, said afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import orjson

from rejoule.traces.errors import RejouleError
from rejoule.traces.model import Trace
from rejoule.traces.words import counted

REMEDY: Final = 'give workflows by their ids, as in \'{"w0000": true, "w0001": false}\'; null where nobody knows'


def labels(text: str) -> dict[str, bool | None]:
    """Success by workflow, from JSON, or from the file after an ``@``. Raises RejouleError."""
    try:
        data = Path(text[1:]).read_bytes() if text.startswith("@") else text.encode()
    except OSError as error:
        raise RejouleError(f"cannot read {text[1:]}: {error.strerror}", "give the path of a JSON file") from None
    try:
        found: Any = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise RejouleError(f"the labels are no JSON: {error}", REMEDY) from None
    if not isinstance(found, dict) or not found:
        raise RejouleError("the labels name no workflow", REMEDY)
    if wrong := next((name for name, said in found.items() if not (said is None or isinstance(said, bool))), None):
        raise RejouleError(f"the label of {wrong} is neither true, false nor null", REMEDY)
    return found


def labelled(trace: Trace, said: Mapping[str, bool | None]) -> Trace:
    """The trace with these successes; workflows not named keep theirs. Raises RejouleError for unknown ones."""
    known = {workflow.id for workflow in trace.workflows}
    if missing := [name for name in said if name not in known]:
        raise RejouleError(
            f"the trace has no workflow {' or '.join(missing[:3])}",
            f"it has {counted(len(known), 'workflow')}, {min(known)} to {max(known)}" if known else "it has none",
        )
    return replace(trace, workflows=tuple(replace(w, success=said.get(w.id, w.success)) for w in trace.workflows))
