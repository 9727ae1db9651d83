"""Small Python modules such as a model writes when it is asked for code, some with a bug that raises when they run."""

from __future__ import annotations

import keyword
import random
import re

from rejoule.replay.embedded.prose import Prose

BUG_RATE = 0.35

# A function's body over a list of numbers, and what it gives for VALUES.
_BODIES = (
    ("    total = 0\n    for value in values:\n        total += value\n    return total\n", "sum(VALUES)"),
    ("    best = values[0]\n    for value in values[1:]:\n        if value > best:\n            best = value\n"
     "    return best\n", "max(VALUES)"),
    ("    return sorted(value for value in values if value % 2 == 0)\n", "[v for v in sorted(VALUES) if v % 2 == 0]"),
    ("    return [value * value for value in values]\n", "[v**2 for v in VALUES]"),
    ("    counts = {}\n    for value in values:\n        counts[value] = counts.get(value, 0) + 1\n    return counts\n",
     "{v: VALUES.count(v) for v in VALUES}"),
    ("    middle = sorted(values)\n    return middle[len(middle) // 2]\n", "sorted(VALUES)[len(VALUES) // 2]"),
    ("    result = []\n    for value in values:\n        if value not in result:\n            result.append(value)\n"
     "    return result\n", "list(dict.fromkeys(VALUES))"),
)  # fmt: skip
_BUGS = (
    "print(summary)\n",
    "assert len(VALUES) < 0, 'no values left'\n",
    "print(VALUES[len(VALUES)])\n",
    "print('total: ' + sum(VALUES))\n",
    "print(sum(VALUES) / (len(VALUES) - len(VALUES)))\n",
    "print({'first': VALUES[0]}['last'])\n",
)


def python_module(rng: random.Random, prose: Prose, functions: int) -> str:
    """A module of ``functions`` functions that checks itself when it runs; about one in three fails to."""
    values = [rng.randrange(1, 20) for _ in range(rng.randrange(4, 8))]
    parts = [f'"""{prose.sentence()}"""\n\nVALUES = {values}\n']
    checks = []
    taken: set[str] = set()
    for body, expected in rng.sample(_BODIES, k=min(functions, len(_BODIES))):
        name = _name(prose)
        while name in taken:
            name += "_too"
        taken.add(name)
        parts.append(f'\n\ndef {name}(values):\n    """{prose.sentence()}"""\n{body}')
        checks.append(f"assert {name}(VALUES) == {expected}\n")
    if rng.random() < BUG_RATE:
        checks.insert(rng.randrange(len(checks) + 1), rng.choice(_BUGS))
    return "".join(parts) + "\n\n" + "".join(checks)


def _name(prose: Prose) -> str:
    words = [re.sub(r"\W", "", prose.word()) or "item" for _ in range(2)]
    name = "_".join(words)
    return f"{name}_value" if keyword.iskeyword(name) else name
