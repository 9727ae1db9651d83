"""The simulated scheduler in small orders that were worked out by hand."""

from __future__ import annotations

import pytest
from tests.vllm.loads import play
from tests.vllm.orders import ORDERS, in_words


@pytest.mark.parametrize("rule", ORDERS)
def test_the_rules_of_vllm_hold(rule: str) -> None:
    """Each decides one order, which ``tests/vllm/test_steps.py`` puts before vLLM's own scheduler."""
    assert in_words(play(ORDERS[rule].load)) == ORDERS[rule].steps
