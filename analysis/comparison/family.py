"""How many claims may be believed at once: of all rows of a table, wrong ones are made in at most 5 % of tables."""

from __future__ import annotations

from collections.abc import Sequence


def adjusted(claims: Sequence[Sequence[float]], weights: Sequence[float]) -> list[list[float]]:
    """The p-values of each row's claims, for there being several rows.

    Holm's step-down procedure with weights (*Scandinavian Journal of Statistics* 6:2, 1979). A row differs, or is the
    same within the margin: both cannot be wrong at once, so a row counts once however many claims it makes (Shaffer,
    *Journal of the American Statistical Association* 81, 1986), for as long as one of them is undecided.
    """
    places = [(p / weights[row], row, i) for row, ps in enumerate(claims) for i, p in enumerate(ps)]
    found = [[1.0] * len(ps) for ps in claims]
    undecided = [len(ps) for ps in claims]
    highest = 0.0
    for scaled, row, i in sorted(places):
        open_weight = sum(w for w, left in zip(weights, undecided, strict=True) if left)
        highest = max(highest, min(1.0, scaled * open_weight))
        found[row][i] = highest
        undecided[row] -= 1
    return found
