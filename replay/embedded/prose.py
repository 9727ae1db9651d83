"""Seeded English-like text: sentences of common words and of words that the prompt used."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

_OPENINGS = ("First", "Then", "In short", "Overall", "Here", "For example", "However", "As a result", "Next", "Finally")
_SUBJECTS = (
    "the result", "this part", "the plan", "each step", "the system", "the answer", "a test", "the source", "our view",
    "the first case", "the design", "the request", "one option", "the data", "the team", "the report", "the change",
    "the model", "every item", "the evidence",
)  # fmt: skip
_VERBS = (
    "shows", "needs", "explains", "supports", "follows", "covers", "improves", "leaves", "depends on", "comes before",
    "adds to", "replaces", "keeps", "returns", "suggests", "describes", "limits", "confirms", "starts with", "checks",
)  # fmt: skip
_OBJECTS = (
    "a clear reason", "the main point", "more time", "the next stage", "a smaller set", "the same value", "an order",
    "the whole input", "a simple rule", "one exception", "the cost", "what was asked", "the details", "a good default",
    "two sides", "the known limits", "a short list", "the open question", "its own result", "the right choice",
)  # fmt: skip
_LINKS = ("and", "but", "so", "because", "while", "which means that", "although", "where")
_PLAIN = (
    "able", "about", "area", "base", "best", "broad", "case", "clear", "close", "common", "core", "cost", "detail",
    "early", "exact", "fair", "field", "final", "first", "focus", "form", "full", "goal", "good", "group", "idea",
    "input", "item", "key", "large", "late", "level", "light", "line", "main", "method", "minor", "name", "new", "note",
    "open", "order", "output", "part", "plan", "point", "prior", "range", "rate", "reason", "result", "review", "role",
    "rule", "sample", "scope", "share", "short", "simple", "single", "source", "state", "step", "sum", "table", "task",
    "term", "test", "topic", "total", "trade", "type", "unit", "use", "value", "view", "wide", "work",
)  # fmt: skip
_WORD = re.compile(r"[A-Za-z]{4,12}")
_STOP = frozenset(
    _WORD.findall(
        "about above after also been before being below between both content could does each from have here into json "
        "like more most must need null only other over path reply should some string such than that their them then "
        "there these they this those through tool tools true type under very want were what when where which while "
        "will with would your assistant user system function properties description required object array parameters "
        "arguments name title integer number boolean schema"
    )
)


@lru_cache(maxsize=256)
def echoes(text: str) -> tuple[str, ...]:
    """Words worth repeating from a prompt: its own nouns and verbs, as far as their length tells."""
    seen = dict.fromkeys(word.lower() for word in _WORD.findall(text[-6000:]))
    return tuple(word for word in seen if word not in _STOP)[-120:]


class Prose:
    """A source of words and sentences that echo a prompt."""

    def __init__(self, rng: random.Random, prompt: str) -> None:
        self._rng = rng
        self._echoes: Sequence[str] = echoes(prompt) or _PLAIN

    def word(self) -> str:
        """One lower-case word."""
        return self._rng.choice(self._echoes if self._rng.random() < 0.5 else _PLAIN)

    def words(self, count: int) -> str:
        """``count`` words, as a title or a name has them."""
        return " ".join(self.word() for _ in range(count))

    def sentence(self) -> str:
        """One sentence of about five to twenty words."""
        rng = self._rng
        text = self._clause()
        if rng.random() < 0.4:
            text += f" {rng.choice(_LINKS)} {self._clause()}"
        if rng.random() < 0.3:
            text = f"{rng.choice(_OPENINGS)}, {text}"
        return text[0].upper() + text[1:] + "."

    def sentences(self) -> Iterator[str]:
        """Sentences without end, with a blank line now and then."""
        rng = self._rng
        yield self.sentence()
        while True:
            yield ("\n\n" if rng.random() < 0.12 else " ") + self.sentence()

    def _clause(self) -> str:
        rng = self._rng
        subject = rng.choice(_SUBJECTS) if rng.random() < 0.5 else f"the {self.word()}"
        thing = rng.choice(_OBJECTS) if rng.random() < 0.5 else f"the {self.word()} {self.word()}"
        return f"{subject} {rng.choice(_VERBS)} {thing}"
