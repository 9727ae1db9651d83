"""One HTTP/1.1 answer, read as it arrives: RFC 9112, as much of it as a client that sends GET and POST needs.

Reading answers here instead of in a library is what keeps the client out of the measurement: docs/benchmarks.md.
"""

from __future__ import annotations

import re
from typing import Final, Literal

HEAD_LIMIT: Final = 1 << 16
STATUS: Final = re.compile(rb"HTTP/1\.([01]) ([1-5]\d\d)[ \r]")
LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*\r")
CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding:[^\r]*\bchunked[ \t]*\r")
CLOSE: Final = re.compile(rb"\r\nconnection:[^\r]*\bclose\b")
KEEP: Final = re.compile(rb"\r\nconnection:[^\r]*\bkeep-alive\b")
SIZE: Final = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[^\r]*)?\r\n")


class ResponseReader:
    """Takes the bytes of one answer in pieces of any size; gives its body."""

    __slots__ = ("_body", "_left", "_rest", "complete", "reusable", "status")

    def __init__(self) -> None:
        self.status = 0
        """0 until the head has come in."""
        self.complete = False
        self.reusable = False
        """Whether the connection may carry another request once this answer is complete."""
        self._body: Literal["head", "length", "chunked", "close"] = "head"
        self._left = 0
        self._rest = b""

    def feed(self, piece: bytes) -> bytes:
        """The part of the body in ``piece``. Raises ValueError if this is not HTTP."""
        rest = self._rest + piece if self._rest else piece
        self._rest = b""
        while self._body == "head":
            end = rest.find(b"\r\n\r\n") + 4
            if end < 4:
                if len(rest) > HEAD_LIMIT or not (rest[:7].startswith(b"HTTP/1.") or b"HTTP/1.".startswith(rest)):
                    raise ValueError("not an HTTP answer")
                self._rest = rest
                return b""
            self._read_head(rest[:end])
            rest = rest[end:]
        if self._body == "chunked":
            return self._read_chunks(rest)
        if self._body == "close":
            return rest
        body, extra = rest[: self._left], rest[self._left :]
        self._left -= len(body)
        if not self._left:
            self._end(extra)
        return body

    def close(self) -> None:
        """Takes note that nothing more will come; an answer may end like that if it announced no length."""
        self.complete = self.complete or self._body == "close"
        self.reusable = False

    def _read_head(self, head: bytes) -> None:
        line = STATUS.match(head)
        if line is None:
            raise ValueError("not an HTTP answer")
        status, fields = int(line[2]), head.lower()
        if status < 200:
            return
        self.status = status
        self.reusable = not CLOSE.search(fields) if line[1] == b"1" else bool(KEEP.search(fields))
        length = LENGTH.search(fields)
        if status in (204, 304):
            self._body = "length"
        elif CHUNKED.search(fields):
            self._body = "chunked"
        elif length:
            self._body, self._left = "length", int(length[1])
        else:
            self._body = "close"

    def _read_chunks(self, rest: bytes) -> bytes:
        found: list[bytes] = []
        at = 0
        while size := SIZE.match(rest, at):
            start, length = size.end(), int(size[1], 16)
            if length == 0:
                end = rest.find(b"\r\n\r\n", start - 2)
                if end >= 0:
                    self._end(rest[end + 4 :])
                    return b"".join(found)
                break
            end = start + length
            if len(rest) < end + 2:
                break
            if rest[end : end + 2] != b"\r\n":
                raise ValueError("a piece of a chunked answer is longer than it said")
            found.append(rest[start:end])
            at = end + 2
        else:
            if b"\r\n" in rest[at:] or len(rest) - at > HEAD_LIMIT:
                raise ValueError("a chunked answer without the size of a piece")
        self._rest = rest[at:]
        return b"".join(found)

    def _end(self, extra: bytes) -> None:
        self.complete = True
        self.reusable = self.reusable and not extra
