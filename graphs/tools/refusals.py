"""Why there is no jail, and what to do about it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from rejoule.traces.errors import RejouleError

UNJAILED: Final = "let the code run as you, with your files and network: sandbox=off (--set sandbox=off)"
SWITCHES: Final = {
    "user/max_user_namespaces": ("0", "sudo sysctl user.max_user_namespaces=10000"),
    "kernel/unprivileged_userns_clone": ("0", "sudo sysctl kernel.unprivileged_userns_clone=1"),
    "kernel/apparmor_restrict_unprivileged_userns": (
        "1",
        "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    ),
}
"""Settings of the kernel under which a user may make no namespaces, and what allows them."""
CONTAINER: Final = "if this is a container, start it with --security-opt seccomp=unconfined, or as --privileged"


class NoJailError(RejouleError):
    """There is no jail here: ``part`` of it cannot be had, for ``reason``, which is the kernel's."""

    def __init__(self, part: str, reason: str) -> None:
        what = f"code that a model wrote cannot be jailed here: {part} refused ({reason})"
        super().__init__(what, f"{_remedy(part)}; or {UNJAILED}")
        self.part, self.reason = part, reason


def _remedy(part: str, proc: Path = Path("/proc/sys")) -> str:
    if part == "system calls":
        return "take a kernel with seccomp, on x86-64 or ARM64"
    for name, (bad, command) in SWITCHES.items():
        try:
            if (proc / name).read_text().strip() == bad:
                return command
        except OSError:
            continue
    return CONTAINER if part == "namespaces" else f"take Linux 5.12 or newer; {CONTAINER}"
