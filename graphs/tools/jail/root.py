"""A file system of its own: the interpreter, read-only, and a small folder in memory."""

import os
import struct

from .kernel import call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE, MNT_DETACH = 2, 4, 4096, 16384, 1 << 18, 2
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
SYS_MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID = 442, -100, 0x8000, 1, 2
DEVICES = ("/dev/null", "/dev/random", "/dev/urandom")
BASE, OLD = "/proc", "/.old"
"""Where the new root is mounted until it is the root: a folder that every machine has, and nothing is bound from."""


def change(readable: "Iterable[str]", folder: str, uid: int, limits: "Mapping[str, int]") -> None:
    """Leaves this process with ``readable``, ``folder``, three devices, and no other file. Raises OSError."""
    call("mount", None, b"/", None, MS_REC | MS_PRIVATE, None)
    call("mount", b"jail", BASE.encode(), b"tmpfs", MS_NOSUID | MS_NODEV, b"size=1m,nr_inodes=1k,mode=0755")
    os.mkdir(BASE + OLD)  # noqa: PTH102
    call("syscall", SYS_PIVOT_ROOT[os.uname().machine], BASE.encode(), (BASE + OLD).encode())
    os.chdir("/")
    for path in (*readable, *DEVICES):
        _show(path)
    os.mkdir(folder)  # noqa: PTH102
    call("umount2", OLD.encode(), MNT_DETACH)
    os.rmdir(OLD)  # noqa: PTH106
    attributes = struct.pack("QQQQ", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, 0, 0, 0)
    call("syscall", SYS_MOUNT_SETATTR, AT_FDCWD, b"/", AT_RECURSIVE, attributes, len(attributes))
    options = f"size={limits['folder_bytes']},nr_inodes={limits['folder_files']},mode=0700,uid={uid},gid={uid}"
    call("mount", b"jail", folder.encode(), b"tmpfs", MS_NOSUID | MS_NODEV, options.encode())


def _show(path: str) -> None:
    """The file, folder or link of the old root at the same place in the new one, if there is one."""
    old = OLD + path
    if os.path.lexists(path) or not os.path.lexists(old):
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
    if os.path.islink(old):  # noqa: PTH114
        os.symlink(os.readlink(old), path)  # noqa: PTH115, PTH211
        return
    if os.path.isdir(old):  # noqa: PTH112
        os.mkdir(path)  # noqa: PTH102
    else:
        open(path, "w").close()  # noqa: PTH123
    call("mount", old.encode(), path.encode(), None, MS_BIND | MS_REC, None)
