"""Ways out of a jail: each is what a program does, and raises OSError or the like where it is held.

``OUT`` holds what there is to reach outside; ``sys_`` makes a system call by its name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from textwrap import indent
from typing import Final


@dataclass(frozen=True)
class Escape:
    """``promise`` is what it attacks; ``open`` says that it succeeds without a jail, so that it can be trusted."""

    promise: str
    name: str
    code: str
    open: bool = False

    def program(self, outside: Mapping[str, object]) -> str:
        """Prints ``escaped``, or ``held`` and by what."""
        return PROGRAM.format(outside=json.dumps(outside), numbers=NUMBERS, code=indent(self.code.strip(), "    "))


NUMBERS: Final = {
    "x86_64": {"mount": 165, "umount2": 166, "pivot_root": 155, "unshare": 272, "setns": 308, "clone": 56,
               "ptrace": 101, "process_vm_readv": 310, "keyctl": 250, "syslog": 103, "memfd_create": 319,
               "shmget": 29, "msgget": 68, "semget": 64, "mq_open": 240, "bpf": 321, "perf_event_open": 298,
               "userfaultfd": 323, "io_uring_setup": 425, "open_by_handle_at": 304, "kcmp": 312,
               "name_to_handle_at": 303, "pidfd_getfd": 438, "clone3": 435, "add_key": 248, "fanotify_init": 300},
    "aarch64": {"mount": 40, "umount2": 39, "pivot_root": 41, "unshare": 97, "setns": 268, "clone": 220,
                "ptrace": 117, "process_vm_readv": 270, "keyctl": 219, "syslog": 116, "memfd_create": 279,
                "shmget": 194, "msgget": 186, "semget": 190, "mq_open": 180, "bpf": 280, "perf_event_open": 241,
                "userfaultfd": 282, "io_uring_setup": 425, "open_by_handle_at": 265, "kcmp": 272,
                "name_to_handle_at": 264, "pidfd_getfd": 438, "clone3": 435, "add_key": 217, "fanotify_init": 262},
}  # fmt: skip

PROGRAM: Final = """\
import ctypes, fcntl, os, resource, signal, socket, stat, struct, subprocess, sys, threading, time
OUT = {outside}
libc = ctypes.CDLL(None, use_errno=True)
def sys_(name, *given):
    number = name if isinstance(name, int) else {numbers}[os.uname().machine][name]
    done = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(g) if isinstance(g, int) else g for g in given))
    if done < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(name))
    return done
def attack():
{code}
try:
    attack()
    print("escaped")
except BaseException as error:
    print("held", type(error).__name__, error)
"""

FILES = (
    Escape("files", "a secret is read", "open(OUT['secret']).read()", True),
    Escape("files", "the users are read", "open('/etc/passwd').read()", True),
    Escape("files", "a folder is listed", "os.listdir(OUT['folder'])", True),
    Escape("files", "a file is written", "open(OUT['folder'] + '/mine', 'w').write('x')", True),
    Escape("files", "a file is removed", "os.remove(OUT['folder'] + '/victim')", True),
    Escape("files", "a link leads out", "os.symlink(OUT['secret'], 'here'); open('here').read()", True),
    Escape("files", "a hard link holds on", "os.link(OUT['secret'], OUT['folder'] + '/hard')", True),
    Escape("files", "dots lead out", "open('../' * 30 + OUT['secret'][1:]).read()", True),
    Escape("files", "the program walks up", "os.chdir('..'); os.listdir(OUT['folder'][1:])"),
    Escape("files", "the library is changed", "open(os.path.dirname(os.__file__) + '/evil.py', 'w')"),
    Escape("files", "the interpreter is changed", "open(sys.executable, 'r+b')"),
    Escape("files", "the loader's list is changed", "open('/etc/ld.so.preload', 'w')"),
    Escape("files", "the root is written", "open('/x', 'w')"),
    Escape("files", "the root is written by mode", "os.chmod('/', 0o777); open('/x', 'w')"),
    Escape("files", "the old root is left", "os.listdir('/.old')"),
    Escape("files", "a handle names a file", """
handle = ctypes.create_string_buffer(struct.pack('Ii', 128, 0) + bytes(128))
mount = ctypes.c_int()
sys_('name_to_handle_at', -100, b'/usr/lib', handle, ctypes.byref(mount), 0)
sys_('open_by_handle_at', os.open('/usr/lib', os.O_RDONLY), handle, 0)
"""),
    Escape("files", "a chroot is left", "os.mkdir('d'); os.chroot('d'); os.chdir('../' * 9); open(OUT['secret'])"),
    Escape("files", "the root is mounted anew", "sys_('mount', b'none', b'/', None, 32 | 4096, None)"),
    Escape("files", "the folder is unmounted", "sys_('umount2', b'/jail', 2)"),
    Escape("files", "another root is taken", "os.mkdir('o'); sys_('pivot_root', b'/jail', b'/jail/o')"),
    Escape("devices", "a disk is made", "os.mknod('disk', 0o600 | stat.S_IFBLK, os.makedev(254, 0)); open('disk')"),
    Escape("devices", "others are there", "assert set(os.listdir('/dev')) - {'null', 'random', 'urandom'}", True),
    Escape("devices", "null is changed for all", "os.chmod('/dev/null', 0o600)"),
    Escape("/proc", "processes are listed", "os.listdir('/proc')", True),
    Escape("/proc", "arguments are read", "open('/proc/%d/cmdline' % OUT['pid']).read()", True),
    Escape("/proc", "the machine is read", "os.listdir('/sys/class')", True),
    Escape("/proc", "proc is mounted", "os.mkdir('p'); sys_('mount', b'proc', b'p', b'proc', 0, None)"),
    Escape("descriptors", "one is inherited", """
found = []
for fd in range(3, 64):
    try:
        os.fstat(fd)
        found.append(fd)
    except OSError:
        pass
assert found
"""),
    Escape("descriptors", "input says something", "assert os.read(0, 1)"),
    Escape("descriptors", "output is a file", "os.ftruncate(1, 0)"),
)  # fmt: skip

NETWORK = (
    Escape("network", "a local server answers", "socket.create_connection(('127.0.0.1', OUT['port']), 1)", True),
    Escape("network", "by IPv6", "socket.create_connection(('::1', OUT['port']), 1)"),
    Escape("network", "a datagram leaves", "socket.socket(type=2).sendto(b'x', ('127.0.0.1', OUT['port']))", True),
    Escape("network", "a name is looked up", "socket.getaddrinfo('localhost.example', 80)"),
    Escape("network", "raw packets", "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)"),
    Escape("network", "frames", "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)"),
    Escape("network", "the kernel's tables", "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)", True),
    Escape("network", "a virtual machine's host", "socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)"),
    Escape("network", "the kernel's ciphers", "socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET)"),
    Escape("network", "other interfaces", "assert {name for _, name in socket.if_nameindex()} - {'lo'}"),
    Escape("sockets", "a stream by path", "s = socket.socket(1); s.connect(OUT['stream']); s.send(b'x')", True),
    Escape("sockets", "a datagram by path", "socket.socket(1, 2).sendto(b'x', OUT['datagram'])", True),
    Escape("sockets", "an abstract name", "s = socket.socket(1); s.connect(chr(0) + OUT['abstract'])", True),
    Escape("sockets", "a pipe with a name", "os.write(os.open(OUT['fifo'], os.O_WRONLY | os.O_NONBLOCK), b'x')", True),
    Escape("terminal", "its own", "os.open('/dev/tty', os.O_RDWR)"),
    Escape("terminal", "another's", "os.write(os.open(OUT['terminal'], os.O_WRONLY | os.O_NOCTTY), b'x')", True),
    Escape("terminal", "words are typed", """
for fd in (0, 1, 2):
    fcntl.ioctl(fd, 0x5412, b'x')
"""),
    Escape("terminal", "one is made", "os.openpty()"),
)  # fmt: skip

PROCESSES = (
    Escape("processes", "a signal arrives", "os.kill(OUT['pid'], 0)", True),
    Escape("processes", "one is renamed in rank", "os.setpriority(os.PRIO_PROCESS, OUT['pid'], 5)"),
    Escape("processes", "a handle is had", "os.pidfd_open(OUT['pid'])", True),
    Escape("processes", "the keeper is traced", "sys_('ptrace', 16, 1, 0, 0)"),
    Escape("processes", "a child is traced", """
child = os.fork()
if child == 0:
    time.sleep(9)
sys_('ptrace', 16, child, 0, 0)
"""),
    Escape("processes", "memory is read", """
buffer = ctypes.create_string_buffer(8)
here = struct.pack('PQ', ctypes.addressof(buffer), 8)
sys_('process_vm_readv', os.getppid(), here, 1, here, 1, 0)
"""),
    Escape("processes", "a descriptor is taken", "sys_('pidfd_getfd', os.pidfd_open(os.getppid()), 0, 0)"),
    Escape("processes", "kernel pointers are compared", "sys_('kcmp', os.getpid(), os.getppid(), 0, 0, 0)"),
    Escape("rights", "root again", "os.setuid(0)"),
    Escape("rights", "any capability", """
header, sets = struct.pack('Ii', 0x20080522, 0), ctypes.create_string_buffer(24)
libc.capget(header, sets)
assert any(struct.unpack('6I', sets.raw))
"""),
    Escape("rights", "privileges come back", "assert libc.prctl(39, 0, 0, 0, 0) == 0"),
    Escape("rights", "a new user namespace", "sys_('unshare', 1 << 28)"),
    Escape("rights", "one by clone", """
child = sys_('clone', 1 << 28 | 17, 0, 0, 0, 0)
if child == 0:
    os._exit(0)
"""),
    Escape("rights", "one by clone3", """
child = sys_('clone3', struct.pack('11Q', 1 << 28, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0), 88)
if child == 0:
    os._exit(0)
"""),
    Escape("rights", "one by another table", """
sys_((0x40000000 if os.uname().machine == 'x86_64' else 1 << 20) + 272, 1 << 28)
"""),
    Escape("rights", "another's namespace", "sys_('setns', os.pidfd_open(os.getppid()), 1 << 28)"),
    Escape("rights", "real time", "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))"),
    Escape("rights", "higher limits", "resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))"),
    Escape("secrets", "the environment", "assert 'very-secret' in str(os.environ)"),
    Escape("secrets", "the machine's name", "assert socket.gethostname() == OUT['host']", True),
    Escape("secrets", "the keys", "sys_('keyctl', 0, -3, 0)"),
    Escape("secrets", "a key is kept", "sys_('add_key', b'user', b'x', b'y', 1, -4)"),
    Escape("secrets", "the kernel's log", "sys_('syslog', 10, 0, 0)"),
    Escape("kernel", "bpf", "sys_('bpf', 0, bytes(72), 72)"),
    Escape("kernel", "performance counters", """
sys_('perf_event_open', struct.pack('IIQ', 1, 112, 0) + bytes(96), 0, -1, -1, 0)
"""),
    Escape("kernel", "faults", "sys_('userfaultfd', 1)"),
    Escape("kernel", "io_uring", "sys_('io_uring_setup', 1, bytes(120))", True),
    Escape("kernel", "watching files", "sys_('fanotify_init', 0x200, 0)"),
    Escape("memory", "a file without a name", "sys_('memfd_create', b'x', 0)", True),
    Escape("memory", "a shared segment", "sys_('shmget', 0, 4096, 0o1600)", True),
    Escape("memory", "messages", "sys_('msgget', 0, 0o1600)", True),
    Escape("memory", "semaphores", "sys_('semget', 0, 1, 0o1600)", True),
    Escape("memory", "a queue", "sys_('mq_open', b'x', 0o102, 0o600, 0)"),
    Escape("memory", "shared, without a file", "import mmap; mmap.mmap(-1, 4096)", True),
    Escape("disk", "temporary files elsewhere", "open('/tmp/mine', 'w')", True),
    Escape("disk", "shared memory's folder", "open('/dev/shm/rejoule-test', 'w')"),
    Escape("disk", "home", "open(OUT['folder'] + '/.bashrc', 'w')", True),
)  # fmt: skip

ESCAPES: Final = (*FILES, *NETWORK, *PROCESSES)
