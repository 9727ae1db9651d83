"""Prompts that quote earlier answers, with the answers of this replay in their place."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rejoule.replay.exactness.splicing import splice

OLD = [901, 902, 903, 904, 905]
NEW = [801, 802, 803, 804, 805]
TEXT = st.lists(st.integers(0, 99), max_size=30)


@given(before=TEXT, between=TEXT, after=TEXT)
def test_quotes_are_replaced_wherever_they_stand(before: list[int], between: list[int], after: list[int]) -> None:
    """Every quotation becomes the new answer; nothing else changes."""
    prompt = [*before, *OLD, *between, *OLD, *after]
    assert splice(prompt, [(OLD, NEW)]) == [*before, *NEW, *between, *NEW, *after]


def test_without_the_token_that_ended_it() -> None:
    """An answer is quoted without its last token too."""
    assert splice([1, *OLD[:-1], 2], [(OLD, NEW)]) == [1, *NEW[:-1], 2]


def test_the_longest_quotation_wins() -> None:
    """A short answer that stands inside a long one is not looked for there."""
    assert splice([*OLD], [(OLD[:4], [1, 2, 3, 4]), (OLD, NEW)]) == NEW


def test_what_a_splice_wrote_is_not_spliced_again() -> None:
    """An answer that happens to equal another's recording stays."""
    assert splice([*OLD, *NEW], [(OLD, NEW), (NEW, OLD)]) == [*NEW, *OLD]


def test_few_tokens_are_no_quotation() -> None:
    """Too short an answer may stand anywhere by chance."""
    assert splice([1, 2, 3], [([1, 2, 3], [7, 8, 9])]) == [1, 2, 3]
