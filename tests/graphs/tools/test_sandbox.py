"""How programs run and end in their jail; those who have none to run in are tested beside."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.graphs.tools.conftest import Worker

from rejoule.graphs.tools.doctests import doctest_tool
from rejoule.graphs.tools.sandbox import Limits, SandboxResult, run_program
from rejoule.graphs.tools.walls import find_jail

pytestmark = pytest.mark.skipif(not find_jail().there, reason="no jail can be had on this machine")


async def ran(code: str, **limits: float) -> SandboxResult:
    """Runs one file."""
    return await run_program({"main.py": code}, ["main.py"], Limits(**limits))  # type: ignore[arg-type]


async def test_good_code_passes() -> None:
    """It may write into its folder, and what it prints comes back without the folder's name."""
    code = "open('note', 'w').write('x'); import os; print(sorted(os.listdir()), os.path.abspath('note'))"
    result = await ran(code)
    assert result.passed
    assert (result.reason, result.output) == ("exit code 0", "['main.py', 'note'] note\n")


async def test_failing_code_fails() -> None:
    """The end of what it said explains why."""
    result = await ran("print('x' * 10_000); raise ValueError('too bad')")
    assert not result.passed
    assert result.reason == "exit code 1"
    assert result.output.endswith("ValueError: too bad\n")
    assert len(result.output) <= 1500


async def test_an_infinite_loop_ends() -> None:
    """The processor time is limited."""
    assert (await ran("while True: pass", cpu_s=1, wall_s=60)).reason == "killed by SIGKILL"


async def test_a_sleeper_ends() -> None:
    """So is the time on the wall."""
    began = time.monotonic()
    assert (await ran("import time; time.sleep(60)", wall_s=0.3)).reason == "time limit"
    assert time.monotonic() - began < 3


async def test_cancelling_ends_the_program() -> None:
    """Nothing outlives a cancelled workflow."""
    task = asyncio.create_task(ran("import time; time.sleep(60)", wall_s=60))
    await asyncio.sleep(0.3)
    task.cancel()
    began = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 3


async def test_a_memory_bomb_gets_no_memory() -> None:
    """The address space is limited."""
    assert "MemoryError" in (await ran("x = bytearray(10**10)")).output


async def test_a_big_file_is_refused() -> None:
    """So is the size of a file, and of what is printed."""
    assert "File too large" in (await ran("open('big', 'wb').write(bytes(10**8))")).output
    assert (await ran("while True: print('x' * 1000)")).reason == "output limit"


async def test_a_fork_bomb_fizzles_out() -> None:
    """The number of processes is limited, and none survives."""
    code = "import os, time\nwhile True:\n    if os.fork() == 0:\n        time.sleep(60)"
    result = await ran(code)
    assert result.reason == "process limit" or "BlockingIOError" in result.output


async def test_secrets_stay_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the environment nor this process's memory of it can be read."""
    monkeypatch.setenv("OPENAI_API_KEY", "very-secret")
    assert "very-secret" not in (await ran("import os; print(os.environ)")).output
    result = await ran(f"print(open('/proc/{os.getpid()}/environ').read())")
    assert "FileNotFoundError" in result.output


async def test_the_network_is_out_of_reach() -> None:
    """Not even a server on this machine answers."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        result = await ran(f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)")
    assert "Network is unreachable" in result.output


async def test_other_folders_cannot_be_written(tmp_path: Path) -> None:
    """Nothing outside is there, and the folder holds few files."""
    tmp_path.chmod(0o777)
    result = await ran(f"open({str(tmp_path / 'x')!r}, 'w')")
    assert "No such file" in result.output
    assert "No space left" in (await ran("for n in range(10**5): open(str(n), 'w').close()")).output


async def test_files_cannot_be_placed_elsewhere() -> None:
    """A name with a folder in it is refused before anything is written."""
    with pytest.raises(ValueError, match="plain file name"):
        await run_program({"../evil.py": ""}, ["x"])


async def test_doctests_decide() -> None:
    """Modules may import each other; a wrong example and a missing module fail."""
    tool = doctest_tool(Limits())
    one = "def one():\n    return 1\n"
    two = '"""\n>>> two()\n2\n"""\nfrom one import one\n\ndef two():\n    return one() + one()\n'
    good = await tool.ainvoke({"modules": {"one": one, "two": two}, "expected": ["one", "two"]})
    wrong = await tool.ainvoke({"modules": {"one": one, "two": two.replace("+", "-")}, "expected": ["one", "two"]})
    missing = await tool.ainvoke({"modules": {"one": one}, "expected": ["one", "two"]})
    assert (good["passed"], wrong["passed"], missing["passed"]) == (True, False, False)
    assert "Expected:\n    2\nGot:\n    0" in wrong["output"]
    assert "No module named 'two'" in missing["output"]


HOLD = """
import os, time
{before}
for _ in range(4):
    if os.fork() == 0:
        {inside}
        time.sleep(0.5)
        os._exit(0)
for _ in range(4):
    os.wait()
"""


async def test_memory_counts_for_all_processes_together() -> None:
    """Four that hold 60 MB each are stopped at a limit of 150."""
    code = HOLD.format(before="", inside="x = b'y' * (60 << 20)")
    assert (await ran(code, memory_bytes=150 << 20)).reason == "memory limit"


async def test_memory_that_processes_share_counts_once() -> None:
    """Children that only have their parent's 60 MB stay within a limit of 150."""
    code = HOLD.format(before="x = b'y' * (60 << 20)", inside="")
    assert (await ran(code, memory_bytes=150 << 20)).passed


async def test_what_a_program_leaves_behind_ends_with_it() -> None:
    """A child in a session of its own that holds the output keeps nobody waiting."""
    began = time.monotonic()
    code = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(60)\nprint('done')"
    assert (await ran(code, wall_s=60)).output == "done\n"
    assert time.monotonic() - began < 5


KILL = """
import os
for pid in (1, os.getppid(), -1):
    try:
        os.kill(pid, 9)
    except OSError:
        pass
print('still here')
"""


async def test_the_keeper_cannot_be_killed() -> None:
    """A program that signals the first process, and all that it sees, ends by itself."""
    assert (await ran(KILL)).output == "still here\n"


SLEEP = "import time; time.sleep(60)"


@pytest.mark.parametrize("jailed", [True, False])
def test_a_program_ends_when_nobody_is_left_to_wait(jailed: bool) -> None:
    """Though half of it left its session, and who had started it was killed without a word."""
    mark = f"mark-{os.getpid()}-{jailed}"
    run = f"os.execv(sys.executable, [sys.executable, '-Sc', {SLEEP!r}, {mark!r}])"
    code = f"import os, sys\nif os.fork() == 0:\n    os.setsid()\n{run}"
    worker = Worker("user")
    assert worker.process.stdin is not None
    worker.process.stdin.write(json.dumps({"code": code, "jailed": jailed, "limits": {"wall_s": 60}}) + "\n")
    worker.process.stdin.flush()
    assert within(10, lambda: len(marked(mark)) == 2)
    worker.process.kill()
    worker.process.communicate()
    assert within(5, lambda: not marked(mark))


def marked(mark: str) -> list[Path]:
    """Processes with that argument."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if mark.encode() in file.read_bytes().split(b"\0"):
                found.append(file)
    return found


def within(seconds: float, true: Callable[[], bool]) -> bool:
    end_s = time.monotonic() + seconds
    while not true() and time.monotonic() < end_s:
        time.sleep(0.02)
    return true()
