"""Files of samples as ``benchmarks.gpu.keep`` keeps them: compressed."""

from __future__ import annotations

import lzma
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


def pack(file: Path, folder: Path) -> None:
    """Puts a file into ``folder``, compressed."""
    (folder / f"{file.name}.xz").write_bytes(lzma.compress(file.read_bytes(), preset=9))


@contextmanager
def unpacked(file: Path) -> Iterator[Path]:
    """A file as it was written, for so long; one that is not compressed is that itself."""
    if file.suffix != ".xz":
        yield file
        return
    with TemporaryDirectory() as folder:
        plain = Path(folder) / file.stem
        plain.write_bytes(lzma.decompress(file.read_bytes()))
        yield plain
