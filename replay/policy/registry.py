"""Policies by name: ReJoule's own, those of installed packages, and classes in files."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final

from rejoule.replay.policy.interface import Policy
from rejoule.traces.errors import RejouleError

GROUP: Final = "rejoule.policies"
OWN: Final[Mapping[str, str]] = {
    "fcfs": "first_come:FirstCome",
    "workflow-fcfs": "first_come:FirstWorkflow",
    "shortest-path": "paths:ShortestPath",
    "critical-path": "paths:CriticalPath",
    "least-slack": "paths:LeastSlack",
    "nat": "sensitivity:Sensitivity",
    "las": "service:LeastAttained",
    "turn-priority": "service:TurnPriority",
    "parrot": "parrot:Parrot",
    "admission": "admission:Admission",
    "slack": "slack:Slack",
}


def names() -> tuple[str, ...]:
    """Of ReJoule's own policies and of those of installed packages."""
    return tuple(dict.fromkeys([*OWN, *sorted(point.name for point in entry_points(group=GROUP))]))


def open_policy(name: str, options: Mapping[str, Any]) -> Policy:
    """A new policy. Raises RejouleError for a name or an option that is none, or a policy that cannot be made."""
    kind = policy_class(name)
    _check_options(name, kind, options)
    try:
        return kind(**options)
    except RejouleError as error:
        raise RejouleError(f"the policy {name}: {error.what}", error.remedy) from None
    except (Exception, SystemExit) as error:
        raise RejouleError(
            f"the policy {name} cannot be made: {type(error).__name__}: {error}", "look at its options, or mend it"
        ) from error


def policy_class(name: str) -> type[Policy]:
    """What makes policies of a name. Raises RejouleError if there is none, or if it is no policy."""
    points = [point for point in entry_points(group=GROUP) if point.name == name]
    if name in OWN and points:
        raise RejouleError(f"{name} is a policy of ReJoule and of {_package(points[0])}", "rename that of the package")
    if len(points) > 1:
        raise RejouleError(f"{name} is a policy of {' and of '.join(map(_package, points))}", "uninstall one of them")
    if name in OWN:
        module, _, kind = OWN[name].partition(":")
        found = getattr(import_module(f"rejoule.replay.policy.{module}"), kind)
    elif points:
        found = _loaded(points[0])
    elif ".py:" in name:
        file, _, kind = name.rpartition(":")
        found = _of_file(Path(file), kind)
    elif name.endswith(".py") and Path(name).is_file():
        raise RejouleError(f"{name} is a file, and not one of its policies", f"give {name}:CLASS")
    else:
        near = get_close_matches(name.lower().replace("_", "-"), names(), 1)
        meant = f"do you mean {near[0]}? " if near else ""
        known = ", ".join(["none", *names()])
        raise RejouleError(f"no policy is called {name!r}", f"{meant}take one of {known}, or FILE.py:CLASS")
    if not (inspect.isclass(found) and issubclass(found, Policy)):
        raise RejouleError(f"{name} is no policy", "derive the class from rejoule.replay.policy.Policy")
    return found


def code_digest(name: str) -> str | None:
    """Of the file that a policy is in; ``None`` for one that comes with a version of ReJoule or of a package."""
    if ".py:" not in name:
        return None
    try:
        return hashlib.sha256(Path(name.rpartition(":")[0]).read_bytes()).hexdigest()
    except OSError:
        return None


def _loaded(point: EntryPoint) -> object:
    try:
        return point.load()
    except Exception as error:
        what = f"the policy {point.name} of {_package(point)} cannot be loaded: {type(error).__name__}: {error}"
        raise RejouleError(what, "mend or uninstall the package") from error


def _of_file(file: Path, kind: str) -> object:
    try:
        name = f"rejoule_policy_{hashlib.sha256(file.read_bytes()).hexdigest()[:16]}"
    except OSError as error:
        raise RejouleError(f"cannot read the policy's file {file}: {error.strerror}", "give FILE.py:CLASS") from None
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        line = getattr(error, "lineno", None) or (lines[-1] if lines else "?")
        what = f"{file}, line {line}: {type(error).__name__}: {error}"
        raise RejouleError(f"the policy's file fails: {what}", "mend it") from error
    if not hasattr(module, kind):
        own = [n for n, v in vars(module).items() if inspect.isclass(v) and issubclass(v, Policy) and v is not Policy]
        raise RejouleError(f"{file} has no class {kind}", f"take one of {', '.join(own)}" if own else "define it there")
    return getattr(module, kind)


def _check_options(name: str, kind: type[Policy], options: Mapping[str, Any]) -> None:
    parameters = {n: p for n, p in inspect.signature(kind).parameters.items() if p.kind != p.VAR_POSITIONAL}
    takes_any = any(p.kind == p.VAR_KEYWORD for p in parameters.values())
    if (unknown := sorted(set(options) - set(parameters))) and not takes_any:
        known = ", ".join(f"{n} ({p.default})" for n, p in parameters.items() if p.default is not p.empty)
        remedy = f"it has {known}" if known else "it has none: leave them out"
        raise RejouleError(f"the policy {name} has no option {', '.join(unknown)}", remedy)
    needed = [n for n, p in parameters.items() if p.default is p.empty and p.kind != p.VAR_KEYWORD]
    if missing := [n for n in needed if n not in options]:
        raise RejouleError(f"the policy {name} needs {', '.join(missing)}", f"give --policy-option {missing[0]}=VALUE")
    for option, value in options.items():
        usual = parameters[option].default if option in parameters else None
        if not _alike(value, usual):
            what = f"the policy {name}'s {option} = {value!r} is not {type(usual).__name__}"
            raise RejouleError(what, f"give one such as {option}={usual}")


def _alike(value: object, usual: object) -> bool:
    """Whether a value is of the kind of an option's default."""
    if isinstance(usual, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return not isinstance(usual, bool | int | str) or type(value) is type(usual)


def _package(point: EntryPoint) -> str:
    return "another package" if point.dist is None else point.dist.name
