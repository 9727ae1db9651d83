"""The one exception that reaches a user, with what to do about it."""

from __future__ import annotations


class RejouleError(Exception):
    """A mistake or a fault that a user can act on.

    The command line prints it as one line, ``what``, followed by ``remedy``, and exits with 2.
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}; {remedy}")
        self.what = what
        self.remedy = remedy


class RejouleWarning(UserWarning):
    """What a reader must know before using a result."""
