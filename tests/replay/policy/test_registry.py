"""Policies by name: ReJoule's, those of packages, and classes in files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rejoule.replay.policy.interface import Policy
from rejoule.replay.policy.registry import OWN, code_digest, names, open_policy
from rejoule.traces import RejouleError

MINE = """
from __future__ import annotations

from dataclasses import dataclass

from rejoule.replay.policy import Pending, Policy, View


@dataclass
class Mine(Policy):
    weight: float = 2.0
    sides: int = 3

    def priority(self, call: Pending, view: View) -> int:
        return round(self.weight * call.turn)


class Needy(Policy):
    def __init__(self, path: str) -> None:
        raise OSError("nothing there")


other = 3
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


@pytest.mark.parametrize("name", OWN)
def test_every_policy_of_rejoules_own_can_be_made(name: str) -> None:
    """All names have a class, and all options defaults."""
    assert isinstance(open_policy(name, {}), Policy)
    assert name in names() and code_digest(name) is None


def test_a_policy_of_a_file_is_made_with_its_options(mine: Path) -> None:
    """FILE.py:CLASS; its code has a digest, so that runs on two codes are not taken for one."""
    assert getattr(open_policy(f"{mine}:Mine", {"weight": 3}), "weight") == 3  # noqa: B009
    before = code_digest(f"{mine}:Mine")
    mine.write_text(MINE.replace("2.0", "4.0"))
    assert getattr(open_policy(f"{mine}:Mine", {}), "weight") == 4.0  # noqa: B009
    assert before != code_digest(f"{mine}:Mine") is not None


@pytest.mark.parametrize(
    ("name", "options", "what", "remedy"),
    [
        ("lass", {}, "no policy is called 'lass'", "fcfs, workflow-fcfs"),
        ("FILE:Nobody", {}, "has no class Nobody", "Mine, Needy"),
        ("FILE:other", {}, "is no policy", "derive the class"),
        ("nowhere.py:Mine", {}, "cannot read the policy's file nowhere.py", "FILE.py:CLASS"),
        ("FILE:Mine", {"wieght": 1}, "has no option wieght", "weight (2.0), sides (3)"),
        ("FILE:Mine", {"weight": "heavy"}, "weight = 'heavy' is not float", "weight=2.0"),
        ("FILE:Mine", {"sides": 1.5}, "sides = 1.5 is not int", "sides=3"),
        ("FILE:Needy", {}, "needs path", "--policy-option path=VALUE"),
        ("FILE:Needy", {"path": "x"}, "cannot be made: OSError: nothing there", "mend it"),
        ("las", {"half_life_s": 0}, "half_life_s = 0 has no meaning", "above 0"),
        ("fcfs", {"x": 0}, "has no option x", "it has none"),
    ],
)
def test_what_is_no_policy_is_refused(
    mine: Path, name: str, options: dict[str, object], what: str, remedy: str
) -> None:
    """One line that says what is wrong, and what to do."""
    with pytest.raises(RejouleError) as error:
        open_policy(name.replace("FILE", str(mine)), options)
    assert what in error.value.what and remedy in error.value.remedy


@pytest.mark.parametrize("code", ["x = (", "import nowhere_at_all", "1 / 0"])
def test_a_file_that_fails_says_where(tmp_path: Path, code: str) -> None:
    """Also what does not even parse is one line, with its number."""
    path = tmp_path / "broken.py"
    path.write_text(f"\n{code}\n")
    with pytest.raises(RejouleError, match=r"broken.py, line 2: \w+"):
        open_policy(f"{path}:Mine", {})


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with a policy, and its list of entry points."""
    (tmp_path / "my_package_of_policies.py").write_text(MINE)
    info = tmp_path / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_package_of_policies", raising=False)
    return info / "entry_points.txt"


def test_packages_bring_policies(package: Path) -> None:
    """An entry point of the group ``rejoule.policies`` is a policy like any other, named in errors too."""
    package.write_text("[rejoule.policies]\nmine = my_package_of_policies:Mine\n")
    assert type(open_policy("mine", {})).__name__ == "Mine"
    assert "mine" in names()


def test_a_package_cannot_take_a_name_or_hide_a_fault(package: Path) -> None:
    """A name that is taken, and a policy that cannot be loaded, name the package."""
    package.write_text("[rejoule.policies]\nlas = my_package_of_policies:Mine\ngone = my_package_of_policies:Gone\n")
    with pytest.raises(RejouleError, match="las is a policy of ReJoule and of my-package"):
        open_policy("las", {})
    with pytest.raises(RejouleError, match="gone of my-package cannot be loaded: AttributeError"):
        open_policy("gone", {})
