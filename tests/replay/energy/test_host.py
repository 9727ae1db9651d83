"""A host is told from others by its CPU and by what is the machine's own, and keeps its name to itself."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import pytest

from rejoule.replay.energy import host


def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, machine_id: str, name: str, cpu: str = "Fast 9000") -> str:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nmodel name\t: {cpu}\nmodel name\t: {cpu}\n")
    (tmp_path / "machine-id").write_text(machine_id)
    monkeypatch.setattr(host, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(host, "MACHINE_ID", tmp_path / "machine-id")
    monkeypatch.setattr(platform, "node", lambda: name)
    host.this_host.cache_clear()
    try:
        return host.this_host()
    finally:
        host.this_host.cache_clear()


def test_two_machines_of_one_image_differ_and_one_is_always_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first, again = (told(monkeypatch, tmp_path, "id", "secret-name") for _ in range(2))
    assert first == again != told(monkeypatch, tmp_path, "id", "other")
    assert first != told(monkeypatch, tmp_path, "other", "secret-name")
    assert re.fullmatch(r"Fast 9000 x \d+ \([0-9a-f]{12}\)", first)


def test_a_machine_that_says_nothing_of_itself_still_has_a_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(host, "CPU_INFO", tmp_path / "none")
    monkeypatch.setattr(host, "MACHINE_ID", tmp_path / "none")
    host.this_host.cache_clear()
    assert re.search(r" x \d+ \([0-9a-f]{12}\)$", host.this_host())
    host.this_host.cache_clear()
