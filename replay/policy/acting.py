"""Where a policy acts: at the client's gate always, and in the engine's own queue where that goes by priorities."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from rejoule.replay.policy.registry import names, open_policy
from rejoule.traces.chosen import GATE_ONLY
from rejoule.traces.errors import RejouleError
from rejoule.traces.run import CONTINUOUS, LEARNED, ORACLE, STATIC, Configuration

PRIORITY: Final = "priority"
OPTION: Final = "scheduling_policy"
"""vLLM's name for the order of its queue."""
URL_OPTION: Final = "priority"
"""The option by which a user says that a running server's queue goes by priorities."""


def queues_by_priority(configuration: Configuration) -> bool:
    """Whether calls carry the priorities of a policy, and the engine's queue goes by them."""
    c = configuration
    if c.policy is None:
        return False
    if c.engine in ("sim", "vllm"):
        return given_order(c) in (None, PRIORITY)
    return c.options.get(URL_OPTION) is True


def given_order(configuration: Configuration) -> Any:
    """The order of the engine's queue that the user asks for; ``None`` if nothing was said."""
    found = (v for k, v in configuration.options.items() if k.lstrip("-").replace("-", "_") == OPTION)
    return next(found, None)


def server_options(configuration: Configuration) -> dict[str, Any]:
    """The options that a vLLM is started with: those given, and the queue's order that a policy needs."""
    options = dict(configuration.options)
    return options | {OPTION: PRIORITY} if queues_by_priority(configuration) else options


def where(configuration: Configuration) -> str:
    """Where a policy acts, in words."""
    if queues_by_priority(configuration):
        return "the client's gate, and the engine's queue by priority"
    return f"{GATE_ONLY}: the engine's queue does not go by its priorities"


def check_policy(configuration: Configuration) -> None:
    """Raises RejouleError for a policy, its options or a way of batching that cannot be had."""
    c = configuration
    if c.policy_knows not in (LEARNED, ORACLE):
        raise RejouleError(f"policy_knows = {c.policy_knows!r} is none", f"choose {LEARNED} or {ORACLE}")
    if c.batching not in (CONTINUOUS, STATIC):
        raise RejouleError(f"batching = {c.batching!r} is none", f"choose {CONTINUOUS} or {STATIC}")
    if c.batching == STATIC and c.concurrency is None and c.max_num_seqs is None:
        raise RejouleError("static batching needs to know how large a wave is", "give concurrency, or max_num_seqs")
    if c.engine not in ("sim", "vllm") and not isinstance(c.options.get(URL_OPTION, True), bool):
        raise RejouleError(f"{URL_OPTION}={c.options[URL_OPTION]} is none", f"give {URL_OPTION}=true, or leave it out")
    if c.policy is None:
        for name in _unused(c):
            raise RejouleError(f"{name} is for a policy, and there is none", f"give one of {', '.join(names())}")
        return
    open_policy(c.policy, c.policy_options)
    if c.engine == "vllm" and given_order(c) not in (None, PRIORITY):
        raise RejouleError(
            f"scheduling_policy={given_order(c)} keeps vLLM's queue from going by the priorities of {c.policy}",
            "leave it out: ReJoule starts vLLM with scheduling_policy=priority where there is a policy",
        )


def _unused(configuration: Configuration) -> Iterator[str]:
    c = configuration
    if c.policy_knows != LEARNED:
        yield f"policy_knows={c.policy_knows}"
    if c.policy_options:
        yield f"the option {next(iter(c.policy_options))}"
    if c.engine not in ("sim", "vllm") and URL_OPTION in c.options:
        yield f"the option {URL_OPTION}={c.options[URL_OPTION]}"
