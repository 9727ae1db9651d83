"""Keeps keys that a client sends out of the texts that a trace keeps."""

from __future__ import annotations

from collections.abc import Iterable

from rejoule.graphs.capture.rewrite import CREDENTIALS

SHORTEST = 6
HIDDEN = "[key]"


class Secrets:
    """Learns credentials from the headers of requests, and takes them out of error messages that repeat them."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        self._known = {value for value in known if len(value) >= SHORTEST}

    def learn(self, headers: Iterable[tuple[str, str]]) -> None:
        """Remembers the credentials in a request's headers."""
        for name, value in headers:
            if name.lower() in CREDENTIALS:
                self._known |= {word for word in value.split() if len(word) >= SHORTEST and word != "Bearer"}

    def hidden(self, text: str) -> str:
        """The text without any of them."""
        for secret in self._known:
            text = text.replace(secret, HIDDEN)
        return text

    def described(self, error: BaseException) -> str:
        """One line on an error, safe to keep."""
        message = " ".join(self.hidden(str(error)).split())
        return f"{type(error).__name__}: {message}" if message else type(error).__name__
