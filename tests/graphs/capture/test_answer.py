"""Answers are read whole, however they arrive, and what is no answer is an error."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rejoule.graphs.capture.answer import Piece, events, parse

CHUNKS = [
    {"choices": [{"index": 0, "delta": {"role": "assistant"}}], "prompt_token_ids": [1, 2, 3]},
    {"choices": [{"index": 0, "delta": {"content": "two"}, "token_ids": [7]}]},
    {"choices": [{"index": 0, "delta": {"content": " words"}, "token_ids": [8, 9], "finish_reason": "stop"}]},
    {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 3}},
]
STREAM = b": hello\r\n\r\n" + b"".join(b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in CHUNKS)


@given(st.lists(st.integers(1, 40), max_size=60))
def test_stream_cut_anywhere(sizes: list[int]) -> None:
    """Wherever the network cuts a stream, the same events come out, each when its last byte came."""
    rest, pieces = STREAM + b"data: [DONE]\n\n", list[Piece]()
    for at, size in enumerate(sizes):
        pieces.append((at, rest[:size]))
        rest = rest[size:]
    pieces.append((100, rest))
    assert [orjson.loads(data) for _, data in list(events(pieces))[:-1]] == CHUNKS
    answer = parse(pieces, status=200, streamed=True)
    assert (answer.text, answer.token_ids, answer.prompt_token_ids) == ("two words", (7, 8, 9), (1, 2, 3))
    assert (answer.finish_reason, answer.complete, answer.error) == ("stop", True, None)
    assert answer.first_token_at == answer.chunks_at[1]
    assert list(answer.chunks_at) == sorted(answer.chunks_at)


def test_stream_without_its_end() -> None:
    """A stream that never said that it was done is not complete."""
    assert not parse([(0, STREAM)], status=200, streamed=True).complete


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"<html>gateway</html>", 502, "<html>gateway</html>"),
        (b"", 500, "HTTP 500"),
        (b'{"error": {"message": "too long", "code": 400}}', 400, "too long"),
        (b'{"object": "error", "message": "flat"}', 400, "flat"),
        (b'{"detail": "Not Found"}', 404, "Not Found"),
        (b"not json", 200, "the answer is no completion: not json"),
        (b'{"choices": []}', 200, 'the answer is no completion: {"choices": []}'),
        (b"[1]", 200, "the answer is no completion: [1]"),
    ],
)
def test_what_is_no_answer(body: bytes, status: int, error: str) -> None:
    """Each kind of error body gives its reason."""
    assert parse([(0, body)], status=status, streamed=False).error == error


def test_error_inside_a_stream() -> None:
    """A server that fails half-way says so in the stream."""
    stream = STREAM + b'data: {"error": {"message": "engine died"}}\n\ndata: [DONE]\n\n'
    answer = parse([(0, stream)], status=200, streamed=True)
    assert (answer.error, answer.text) == ("engine died", "two words")


def test_ids_of_plain_completions() -> None:
    """Where a completion puts prompt ids beside its text, they are found, and counted where usage is missing."""
    body = {"choices": [{"text": "hi", "token_ids": [5], "prompt_token_ids": [1, 2], "finish_reason": "length"}]}
    answer = parse([(0, orjson.dumps(body))], status=200, streamed=False)
    assert (answer.text, answer.prompt_token_ids, answer.token_ids) == ("hi", (1, 2), (5,))
    assert (answer.prompt_tokens, answer.output_tokens, answer.cached_tokens) == (2, 1, None)
