"""The prefix cache: which blocks can be hit, by their hashes.

Blocks live in *runs*, stretches of one chain that are held, freed and evicted together, so that most operations cost a
run and not a block; a run is split when a request shares only its beginning.

Whoever holds or frees a block does so with all before it, so a cached block's chain is cached from its beginning. That
is why only the first hash of a run need be looked up: whatever leads to a block inside leads through the first one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence


class Run:
    """A stretch of one chain of full blocks. A ``sealed`` one is a single block that may have twins."""

    __slots__ = ("hashes", "holders", "sealed")

    def __init__(self, hashes: list[int]) -> None:
        self.hashes = hashes
        self.holders: dict[Lease, None] = {}
        self.sealed = False

    def cut(self, count: int) -> Run:
        """Cut the first ``count`` blocks off as a run of their own, held by the same leases."""
        head = Run(self.hashes[:count])
        del self.hashes[:count]
        head.holders = dict(self.holders)
        for lease in head.holders:
            lease.runs.insert(lease.runs.index(self), head)
        return head


class Lease:
    """The blocks that one request holds: runs of full blocks, then ``blank`` blocks still being filled."""

    __slots__ = ("blank", "full", "runs")

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.full = 0
        self.blank = 0

    @property
    def blocks(self) -> int:
        """How many blocks are held."""
        return self.full + self.blank

    def grow(self, hashes: list[int]) -> Run:
        """Hold a new run of these blocks, too."""
        run = Run(hashes)
        run.holders[self] = None
        self.runs.append(run)
        return run


Hits = list[tuple[Run, int]]


class PrefixCache:
    """The runs that can be hit. Who holds their blocks, and which are evicted, is decided elsewhere."""

    def __init__(self) -> None:
        self._owner: dict[int, Run] = {}
        """By its first hash, every run that can be hit."""
        self._twins: dict[int, list[Run]] = {}
        """Copies of blocks in other runs, by their hash: each can be hit once those before it are gone."""

    def find(self, hashes: Sequence[int], limit: int, refresh: Callable[[int], bool] | None = None) -> Hits:
        """The cached runs that ``hashes`` begins with, at most ``limit`` blocks of them.

        ``refresh`` is asked about the first hash that is not cached; if it answers that now it is, the search goes on.
        """
        hits: Hits = []
        at = 0
        while at < limit:
            run = self._owner.get(hashes[at])
            if run is None:
                if refresh is None or not refresh(hashes[at]):
                    break
                if hits:
                    # The run found last may have grown by it.
                    at -= hits.pop()[1]
                continue
            own = run.hashes
            count = min(len(own), limit - at)
            # Hashes are chained: once they differ they stay different, so the shared part can be bisected.
            if own[count - 1] != hashes[at + count - 1]:
                low, high = 1, count - 1
                while low < high:
                    middle = (low + high + 1) // 2
                    if own[middle - 1] == hashes[at + middle - 1]:
                        low = middle
                    else:
                        high = middle - 1
                count = low
            hits.append((run, count))
            at += count
        return hits

    def split(self, run: Run, count: int) -> Run:
        """Cut the first ``count`` blocks off as a run of their own; ``run`` keeps the rest."""
        head = run.cut(count)
        self._owner[head.hashes[0]] = head
        self._owner[run.hashes[0]] = run
        return head

    def publish(self, lease: Lease, chain: Sequence[int], full: int) -> None:
        """Let the blocks of ``lease`` after its full ones be hit, as far as the first ``full`` of ``chain``."""
        new = list(chain[lease.full : full])
        last = lease.runs[-1] if lease.runs else None
        known = lease.full
        if new[0] in self._owner or (last is not None and last.sealed):
            known = sum(count for _, count in self.find(chain, full))
        if known <= lease.full:
            if last is not None and len(last.holders) == 1 and not last.sealed:
                last.hashes += new
            else:
                self._owner[new[0]] = lease.grow(new)
            return
        # Somebody else computed some of these blocks: both copies stay, each a run of one block, and only one is hit.
        for place, value in enumerate(new, lease.full):
            run = lease.grow([value])
            run.sealed = True
            if place < known:
                self._twins.setdefault(value, []).append(run)
            else:
                self._owner[value] = run

    def forget(self, run: Run, hashes: list[int]) -> None:
        """Take ``hashes``, the last ones of ``run``, out; the first of their twins, if any, can be hit from now on."""
        if self._twins:
            if run.sealed and self._owner.get(hashes[0]) is not run:
                self._drop_twin(run)
                return
            heirs = {value: self._twins[value][0] for value in hashes if value in self._twins}
            for value, heir in heirs.items():
                self._drop_twin(heir)
                self._owner[value] = heir
            if hashes[0] in heirs:
                return
        if len(hashes) == len(run.hashes):
            del self._owner[hashes[0]]

    def clear(self) -> None:
        """Forget everything."""
        self._owner.clear()
        self._twins.clear()

    def _drop_twin(self, run: Run) -> None:
        twins = self._twins[run.hashes[0]]
        twins.remove(run)
        if not twins:
            del self._twins[run.hashes[0]]
