"""Whether a jail can be had on this machine, found by running nothing in one; and what a workload's setting means."""

from __future__ import annotations

import marshal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from rejoule.graphs.tools.interpreter import supervisor
from rejoule.graphs.tools.jail.kernel import PARTS
from rejoule.graphs.tools.refusals import NoJailError
from rejoule.graphs.tools.sandbox import FOLDER, Limits, order, passed
from rejoule.traces.errors import RejouleError

ON, OFF, IF_POSSIBLE = SANDBOX = ("on", "off", "if-possible")
"""``on`` refuses where there is no jail; ``if-possible`` then does without, and says so."""
TRIAL: Final = "trial"
"""What is wrong where all parts can be had, yet nothing ran."""


@dataclass(frozen=True)
class Jail:
    """What of a jail there is: each part by name, ``None`` where one before it was refused."""

    parts: Mapping[str, bool | None]
    trouble: RejouleError | None

    @property
    def there(self) -> bool:
        return self.trouble is None


@cache
def find_jail() -> Jail:
    """Tries it, once a process."""
    try:
        if not passed(_tried()):
            raise RejouleError("an empty program fails in the jail", "run it as a user who may read Python's own files")
    except NoJailError as error:
        at = PARTS.index(error.part) if error.part in PARTS else 0
        return Jail({name: None if place > at else place < at for place, name in enumerate(PARTS)}, error)
    except RejouleError as error:
        return Jail(dict.fromkeys(PARTS), error)
    return Jail(dict.fromkeys(PARTS, True), None)


def jailed(sandbox: str) -> bool:
    """Whether code runs in a jail under this setting. Raises RejouleError where it must, and cannot."""
    trouble = None if sandbox == OFF else find_jail().trouble
    if trouble is not None and sandbox == ON:
        raise trouble
    return sandbox != OFF and trouble is None


def remarks(sandbox: str) -> tuple[str, ...]:
    """What must be said of recording under this setting."""
    if jailed(sandbox):
        return ()
    trouble = None if sandbox == OFF else find_jail().trouble
    found = "no jail is asked for (sandbox=off)" if trouble is None else trouble.what
    return (f"{found}; code that the model writes runs as you, with your files and network",)


def _tried() -> dict[str, object]:
    """The report of an empty program."""
    command = order({"nothing.py": ""}, ["nothing.py"], Limits(), FOLDER, jailed=True)
    with subprocess.Popen(
        supervisor(), env={}, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as jail:  # fmt: skip
        assert jail.stdin is not None and jail.stdout is not None
        try:
            jail.stdin.write(marshal.dumps(command))
            jail.stdin.flush()
            # Its input stays open until it has reported, or it would take that for the end.
            said = jail.stdout.read()
        except BrokenPipeError:
            said = b""
    return dict(marshal.loads(said)) if said else {}
