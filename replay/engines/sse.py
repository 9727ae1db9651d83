"""Server-sent events, by the rules of the HTML standard, section 9.2.6.

Names, ids and retry times of events are not kept: what a completion says is in its data.
"""

from __future__ import annotations

from typing import Final


class EventStream:
    """Takes a stream of events in pieces of any size; gives the data of those that are whole."""

    __slots__ = ("_begun", "_data", "_rest")

    def __init__(self) -> None:
        self._begun = False
        self._data: list[bytes] = []
        self._rest = b""

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of every event that ends in ``piece``."""
        text = self._rest + piece
        if not self._begun:
            if len(text) < len(MARK) and MARK.startswith(text):
                self._rest = text
                return []
            self._begun, text = True, text.removeprefix(MARK)
        lines = text.splitlines(keepends=True)
        # A carriage return at the very end may be the first half of a line's end.
        self._rest = lines.pop() if lines and not text.endswith(b"\n") else b""
        found = []
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[6 if line.startswith(b"data: ") else 5 :].rstrip(b"\r\n"))
            elif line in BLANK:
                if self._data:
                    found.append(b"\n".join(self._data))
                    self._data = []
            elif line.rstrip(b"\r\n") == b"data":
                self._data.append(b"")
        return found


MARK: Final = b"\xef\xbb\xbf"
"""A byte order mark, which may open a stream."""
BLANK: Final = (b"\n", b"\r\n", b"\r")
