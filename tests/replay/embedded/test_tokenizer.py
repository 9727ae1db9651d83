"""The tokenizer: reversible, stable under cutting and appending."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from rejoule.replay.embedded import tokenizer

PROSE = (
    "The planner reads the request, asks every engineer for an estimate, and merges the answers into one schedule. "
    "Whenever a test fails, the reviewer explains what went wrong and suggests a smaller change."
)


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=())))
def test_decoding_gives_back_every_string(text: str) -> None:
    """Nothing is lost, lone surrogates included, and ids stay exact in a double."""
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert all(255 < i < 2**53 for i in ids)


@settings(deadline=None)
@given(st.text(), st.integers(0, 30))
def test_a_cut_encoding_is_the_encoding_of_the_cut_text(text: str, length: int) -> None:
    """An answer that was cut at any token has the same ids when a later prompt quotes it."""
    ids = tokenizer.encode(text)[:length]
    assert tokenizer.encode(tokenizer.decode(ids)) == ids


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**60)))
def test_ids_of_other_tokenizers_decode_to_some_text(ids: list[int]) -> None:
    """No id is refused; what is no text shows its number."""
    assert tokenizer.decode(ids) == "".join(tokenizer.token_text(i) for i in ids)
    assert tokenizer.token_text(123) == "<123>"


def test_english_has_about_as_many_tokens_a_word_as_real_vocabularies() -> None:
    """1.3 to 1.6 tokens a word, punctuation included."""
    assert 1.3 <= len(tokenizer.encode(PROSE)) / len(PROSE.split()) <= 1.6


messages = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "tool"]), "content": st.text(max_size=20)}),
    max_size=4,
)


@settings(deadline=None)
@given(messages, messages)
def test_appending_messages_only_appends_ids(earlier: list[dict[str, str]], later: list[dict[str, str]]) -> None:
    """A longer conversation's prompt begins with the shorter one's, so that the prefix cache can hit."""
    head = tokenizer.chat_ids(earlier, prompt=False)
    assert tokenizer.chat_ids([*earlier, *later])[: len(head)] == head


def test_an_answer_continues_its_prompt() -> None:
    """Prompt and generated ids together are the beginning of the next turn's prompt."""
    history = [{"role": "user", "content": "What is a joule?"}]
    answer = "One watt for one second."
    generated = [*tokenizer.chat_ids(history), *tokenizer.encode(answer), tokenizer.END]
    longer = tokenizer.chat_ids([*history, {"role": "assistant", "content": answer}, {"role": "user", "content": "!"}])
    assert longer[: len(generated)] == generated
