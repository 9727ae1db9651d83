"""A seccomp filter: the system calls by which a program without rights could still reach out of its namespaces.

Numbers are of Linux's tables, arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
"""

import ctypes
import errno
import os
import struct

from .kernel import PR_SET_SECCOMP, call

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
X32 = 0x40000000
"""Numbers from here on are a second table of x86-64's."""

DENIED = {
    # New namespaces; with them a program would have rights again.
    "unshare": (272, 97),
    "setns": (308, 268),
    # Other processes' memory and descriptors.
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    # Keys, that no namespace keeps apart, and the kernel's log.
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "syslog": (103, 116),
    # Memory that no process is seen to hold.
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    # Ways into the kernel that small programs have no use for.
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "fanotify_init": (300, 262),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
}
CLONE, CLONE3, SOCKET, MMAP = (56, 220), 435, (41, 198), (9, 222)
NEW_NAMESPACES = 0x7E020080
FAMILIES = (1, 2, 10)
"""Unix, IPv4 and IPv6, which namespaces keep apart; others, as those to a virtual machine's host, they do not."""
SHARED_ANONYMOUS = 0x21
"""Stays when no process shows it, as memfd's does."""

LOAD, EQUAL, AT_LEAST, ANY_BIT, AND, RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
NUMBER, ARCH, FIRST_ARGUMENT, FOURTH_ARGUMENT = 0, 4, 16, 40
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
SECCOMP_MODE_FILTER = 2
Instruction = tuple[int, int, int, int]


def close() -> None:
    """Puts this process and its children under the filter, for good. Raises OSError, ValueError."""
    machine = os.uname().machine
    if machine not in AUDIT_ARCH:
        raise ValueError(f"no list of the system calls of {machine}")
    program = b"".join(struct.pack("HBBI", *each) for each in _program(machine))
    code = ctypes.create_string_buffer(program, len(program))
    prog = struct.pack("HP", len(program) // 8, ctypes.addressof(code))
    call("prctl", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, prog, 0, 0)


def _program(machine: str) -> list[Instruction]:
    column = 0 if machine == "x86_64" else 1
    refuse = _answer(errno.EPERM)
    code: list[Instruction] = [(LOAD, 0, 0, ARCH), (EQUAL, 1, 0, AUDIT_ARCH[machine]), refuse, (LOAD, 0, 0, NUMBER)]
    if machine == "x86_64":
        code += [(AT_LEAST, 0, 1, X32), refuse]
    for numbers in DENIED.values():
        code += [(EQUAL, 0, 1, numbers[column]), refuse]
    # clone3 takes its flags in memory, which no filter can read; libraries fall back to clone.
    code += [(EQUAL, 0, 1, CLONE3), _answer(errno.ENOSYS)]
    code += _when(CLONE[column], [(LOAD, 0, 0, FIRST_ARGUMENT), (ANY_BIT, 0, 1, NEW_NAMESPACES), refuse])
    known = [(EQUAL, len(FAMILIES) - place, 0, family) for place, family in enumerate(FAMILIES)]
    code += _when(SOCKET[column], [(LOAD, 0, 0, FIRST_ARGUMENT), *known, _answer(errno.EAFNOSUPPORT)])
    both = [(AND, 0, 0, SHARED_ANONYMOUS), (EQUAL, 0, 1, SHARED_ANONYMOUS), refuse]
    code += _when(MMAP[column], [(LOAD, 0, 0, FOURTH_ARGUMENT), *both])
    return [*code, (RETURN, 0, 0, ALLOW)]


def _when(number: int, then: list[Instruction]) -> list[Instruction]:
    """Judges one system call by its arguments: what ``then`` does not answer is allowed."""
    return [(EQUAL, 0, len(then) + 1, number), *then, (RETURN, 0, 0, ALLOW)]


def _answer(number: int) -> Instruction:
    return RETURN, 0, 0, ERRNO | number
