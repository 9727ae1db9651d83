"""Trace files: one JSON record a line, the header first and an end record last; compressed if the name ends in .zst.

Records are appended as they complete, so a killed recording keeps all of them; what a reader may trust is
closed by a ``workflow`` record, which counts what belongs to it. ``docs/trace-format.md`` describes the fields.
"""

from __future__ import annotations

import gc
import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

import msgspec
import orjson
import zstandard

from rejoule.traces.check import problems
from rejoule.traces.decoding import DamagedError, decoded, lines_of
from rejoule.traces.errors import RejouleError
from rejoule.traces.migrate import migrated
from rejoule.traces.model import Call, Edge, Header, Task, ToolCall, Trace, Unrecorded, Workflow, WorkflowStatus

Member = Task | Call | ToolCall | Edge
T = TypeVar("T")

SALVAGE: Final = "read what is complete with --salvage, or record it again"
CHANGED: Final = (
    "restore it from a copy, read what is sound with --salvage, or, if you changed it yourself, "
    "remove the digests of its workflow and end records"
)
EDITED: Final = "was changed by hand since it was recorded: what is said of it is of what it holds now"
RECORD_AGAIN: Final = "record it again, or restore the file from a copy"


@dataclass(frozen=True, slots=True)
class Closing:
    """The last record of a workflow: what it was, and how many records belong to it."""

    id: str
    graph: str
    arrival_ns: int
    end_ns: int
    tasks: int
    calls: int
    tool_calls: int
    edges: int
    status: WorkflowStatus = "done"
    error: str | None = None
    input: Any = None
    success: bool | None = None
    size: int | None = None
    """Bytes of the file before this key; ``None`` in files from before there were digests."""
    digest: str | None = None
    """SHA-256 of all of the file before this key."""


@dataclass(frozen=True, slots=True)
class End:
    workflows: int
    size: int | None = None
    """As that of ``Closing``, and so is the digest."""
    digest: str | None = None


KINDS: Final[dict[str, type[Any]]] = {
    "header": Header, "task": Task, "call": Call, "tool_call": ToolCall, "edge": Edge, "workflow": Closing,
    "unrecorded": Unrecorded, "end": End,
}  # fmt: skip
NAMES: Final = {kind: name for name, kind in KINDS.items()}

UNSAID: Final = {
    Call: b',"agent":null,"sibling_of":null,"pieces":null}\n', Edge: b',"tokens":null}\n',
    Closing: b',"size":null,"digest":null}\n', End: b',"size":null,"digest":null}\n',
}  # fmt: skip
"""What a record of version 1 lacks. It is left out where it says nothing, so that digests stay what they were."""


class _Line(msgspec.Struct):
    record: str


_name_of: Final = msgspec.json.Decoder(_Line).decode
_raw: Final = msgspec.json.Decoder(dict[str, Any]).decode
_DECODE: Final = {kind: msgspec.json.Decoder(kind).decode for kind in NAMES}


def encode(record: object) -> bytes:
    """One line of a trace file."""
    body = orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)
    if isinstance(record, Closing) and record.success is None:
        # The last of that name is its own: what comes after are a number and a digest.
        body = b"".join(body.rpartition(b',"success":null')[::2])
    if body.endswith(unsaid := UNSAID.get(type(record), b"\0")):
        body = body.removesuffix(unsaid) + b"}\n"
    return b'{"record":"%s",' % NAMES[type(record)].encode() + body[1:]


class TraceWriter:
    """Writes a trace as it is recorded. Leave it normally to mark the file as whole.

    Left by an error before anything but tasks was recorded, it leaves no file. In a forked process it does nothing.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self.path = path
        self._header = header
        self._added: dict[str, set[str]] = defaultdict(set)
        self._workflows = 0
        self._kept = False
        self._process = os.getpid()
        self._digest = hashlib.sha256()
        self._size = 0

    def __enter__(self) -> TraceWriter:
        try:
            self._file = self.path.open("wb", buffering=0)
        except OSError as error:
            raise RejouleError(
                f"cannot write {self.path}: {error.strerror}", "choose a folder that you may write to"
            ) from error
        packed = self.path.suffix == ".zst"
        self._packer = zstandard.ZstdCompressor(level=3, write_checksum=True).compressobj() if packed else None
        try:
            self._append(encode(self._header))
        except RejouleError:
            self._file.close()
            self._remove()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if os.getpid() != self._process:
            return
        with self._file:
            if kind is None:
                self._close(End(self._workflows))
                if self._packer:
                    self._file.write(self._packer.flush())
        if kind is not None and not self._kept:
            self._remove()

    def _remove(self) -> None:
        # Never a device or a pipe.
        if self.path.is_file():
            self.path.unlink()

    def add(self, record: Call | ToolCall | Task) -> None:
        """Appends a record of a workflow in progress."""
        self._added[record.workflow].add(record.id)
        self._append(encode(record))
        self._kept = self._kept or not isinstance(record, Task)

    def close(self, workflow: Workflow) -> None:
        """Appends what of a workflow was not added yet, its edges, and the record that closes it."""
        done = self._added.pop(workflow.id, set())
        members: tuple[Task | Call | ToolCall, ...] = (*workflow.tasks, *workflow.calls, *workflow.tool_calls)
        lines = [encode(m) for m in members if m.id not in done]
        lines += [encode(edge) for edge in workflow.edges]
        self._append(b"".join(lines))
        self._close(closing(workflow))
        self._workflows += 1
        self._kept = True

    def tell(self, unrecorded: Iterable[Unrecorded]) -> None:
        """Appends what else reached the server."""
        self._append(b"".join(map(encode, unrecorded)))

    def _close(self, record: Closing | End) -> None:
        """Appends a record that states what the file was up to its own digest."""
        sized = replace(record, size=self._size + len(encode(record)) - len(b"}\n"))
        digest = self._digest.copy()
        digest.update(encode(sized).removesuffix(b',"digest":null}\n'))
        self._append(encode(replace(sized, digest=digest.hexdigest())))

    def _append(self, data: bytes) -> None:
        if os.getpid() != self._process:
            return
        self._digest.update(data)
        self._size += len(data)
        # Nothing stays in a buffer, so that a kill can cut only the record being written.
        if self._packer:
            data = self._packer.compress(data) + self._packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise RejouleError(
                f"cannot write {self.path}: {error.strerror}",
                "make room; what was recorded so far can be read with --salvage",
            ) from error


def closing(workflow: Workflow) -> Closing:
    return Closing(
        id=workflow.id,
        graph=workflow.graph,
        arrival_ns=workflow.arrival_ns,
        end_ns=workflow.end_ns,
        tasks=len(workflow.tasks),
        calls=len(workflow.calls),
        tool_calls=len(workflow.tool_calls),
        edges=len(workflow.edges),
        status=workflow.status,
        error=workflow.error,
        input=workflow.input,
        success=workflow.success,
    )


def by_start(member: Task | Call | ToolCall) -> tuple[int, str]:
    """The order of records in a workflow, whatever order they were written in."""
    return member.start_ns, member.id


def _by_arrival(workflow: Workflow) -> tuple[int, str]:
    return workflow.arrival_ns, workflow.id


def save(trace: Trace, path: Path) -> None:
    """Writes a whole trace."""
    with TraceWriter(path, trace.header) as writer:
        for workflow in trace.workflows:
            writer.close(workflow)
        writer.tell(trace.unrecorded)


def load(path: Path, *, salvage: bool = False) -> Trace:
    """Reads and checks a trace.

    With ``salvage``, a cut or damaged file gives every workflow that was complete before the damage.
    Raises RejouleError naming the line and the remedy otherwise, and always for a file that is no trace or too new.
    """
    reader = _Reader(path)
    try:
        with _uncollected():
            reader.read()
    except RejouleError:
        if not salvage or reader.header is None:
            raise
    workflows = tuple(sorted(reader.workflows, key=_by_arrival))
    trace = Trace(reader.header or _no_trace(path), workflows, tuple(reader.unrecorded), reader.edited)
    if salvage:
        sound = tuple(w for w in trace.workflows if not problems(Trace(trace.header, (w,))))
        if not sound:
            raise RejouleError(f"{path}: no workflow in it is complete", RECORD_AGAIN)
        return replace(trace, workflows=sound)
    if found := problems(trace):
        raise RejouleError(f"{path}: {found[0]}", SALVAGE)
    return trace


def trace_digest(trace: Trace) -> str:
    """SHA-256 over the trace's content, whatever the file's compression or order of records."""
    state = hashlib.sha256()
    for workflow in sorted(trace.workflows, key=_by_arrival):
        for members in (workflow.tasks, workflow.calls, workflow.tool_calls):
            for member in sorted(members, key=by_start):
                state.update(encode(member))
        for last in (*workflow.edges, closing(workflow)):
            state.update(encode(last))
    return state.hexdigest()


class _Reader:
    """Gathers records into workflows, in file order, up to the first that is wrong."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: Header | None = None
        self.workflows: list[Workflow] = []
        self.unrecorded: list[Unrecorded] = []
        self._open: dict[str, list[Member]] = defaultdict(list)
        self._owner: dict[str, str] = {}
        self._once: dict[Any, Any] = {}
        self._digest = hashlib.sha256()
        self._size = 0
        self.edited = False

    def read(self) -> None:
        end: End | None = None
        number = 0
        for number, line in enumerate(_lines(self.path), 1):
            if end is not None:
                raise self._wrong(number, "a record after the end record")
            record = self._decode(number, line)
            if isinstance(record, Closing | End) and record.digest is not None:
                self._check(number, line, record)
            self._digest.update(line)
            self._size += len(line)
            if isinstance(record, End):
                end = record
            else:
                self._take(number, record)
        if self.header is None:
            _no_trace(self.path)
        if end is None:
            raise RejouleError(f"{self.path} is cut after line {number}: its end record is missing", SALVAGE)
        if end.workflows != len(self.workflows):
            raise self._wrong(number, f"{end.workflows} workflows were recorded, {len(self.workflows)} are here")

    def _check(self, number: int, line: bytes, record: Closing | End) -> None:
        """What turns bits over leaves lengths as they are; what changes them is a hand that knew what it did."""
        body = line.removesuffix(b',"digest":"%s"}\n' % str(record.digest).encode())
        size = self._size + len(body.removesuffix(b',"size":%d' % (record.size or 0)))
        if self.edited or size != record.size:
            self.edited = True
            return
        digest = self._digest.copy()
        digest.update(body)
        if digest.hexdigest() != record.digest:
            raise RejouleError(f"{self.path}, line {number}: it, or what comes before it, is not as written", CHANGED)

    def _decode(self, number: int, line: bytes) -> Any:
        try:
            kind = KINDS[decoded(line, _name_of).record]
        except (DamagedError, KeyError) as error:
            if self.header is None:
                _no_trace(self.path)
            why = f" ({error})" if isinstance(error, DamagedError) else ""
            what = f"not a record of a trace{why}" if line.endswith(b"\n") else "cut short"
            raise self._wrong(number, what) from None
        if (kind is Header) != (self.header is None):
            raise self._wrong(number, "the header must be the first record, and the only one")
        try:
            if kind is Header:
                return decoded(line, lambda data: msgspec.convert(migrated(_raw(data), str(self.path)), Header))
            return decoded(line, _DECODE[kind])
        except DamagedError as error:
            raise self._wrong(number, str(error)) from None

    def _take(self, number: int, record: Header | Closing | Unrecorded | Member) -> None:
        match record:
            case Header():
                self.header = record
            case Closing():
                self.workflows.append(self._closed(number, record))
            case Unrecorded():
                self.unrecorded.append(record)
            case Edge():
                owner = self._owner.get(record.source)
                if owner is None:
                    raise self._wrong(number, f"an edge from {record.source}, which was not recorded")
                self._open[owner].append(record)
            case _:
                if isinstance(record, Call):
                    record = self._shared(record)
                self._owner[record.id] = record.workflow
                self._open[record.workflow].append(record)

    def _shared(self, call: Call) -> Call:
        # Prompts repeat each other, and their ids come from one vocabulary: each value is kept once.
        once = self._once.setdefault
        messages = call.request.get("messages")
        for message in messages if isinstance(messages, list) else ():
            if isinstance(message, dict) and isinstance(text := message.get("content"), str):
                message["content"] = once(text, text)

        def kept(ids: tuple[int, ...] | None) -> tuple[int, ...] | None:
            return None if ids is None else tuple(map(once, ids, ids))

        return replace(call, prompt_token_ids=kept(call.prompt_token_ids), token_ids=kept(call.token_ids))

    def _closed(self, number: int, last: Closing) -> Workflow:
        members = self._open.pop(last.id, [])

        def of(kind: type[T]) -> tuple[T, ...]:
            return tuple(m for m in members if isinstance(m, kind))

        workflow = Workflow(
            id=last.id,
            graph=last.graph,
            arrival_ns=last.arrival_ns,
            end_ns=last.end_ns,
            status=last.status,
            error=last.error,
            input=last.input,
            success=last.success,
            tasks=tuple(sorted(of(Task), key=by_start)),
            calls=tuple(sorted(of(Call), key=by_start)),
            tool_calls=tuple(sorted(of(ToolCall), key=by_start)),
            edges=of(Edge),
        )
        for what in ("tasks", "calls", "tool_calls", "edges"):
            if (here := len(getattr(workflow, what))) != (recorded := getattr(last, what)):
                raise self._wrong(number, f"workflow {last.id} had {recorded} {what}, {here} are here")
        return workflow

    def _wrong(self, number: int, what: str) -> RejouleError:
        return RejouleError(f"{self.path}, line {number}: {what}", SALVAGE)


@contextmanager
def _uncollected() -> Iterator[None]:
    # All that is read is kept: looking through it for garbage, again and again, takes longer than reading it.
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _no_trace(path: Path) -> Header:
    raise RejouleError(f"{path} is not a ReJoule trace", "record one with: rejoule record WORKLOAD -o TRACE")


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from lines_of(file, compressed=path.suffix == ".zst")
    except DamagedError as error:
        raise RejouleError(f"{path}: {error}", SALVAGE) from None
    except FileNotFoundError:
        raise RejouleError(f"{path} does not exist", "record one with: rejoule record WORKLOAD -o TRACE") from None
    except OSError as error:
        raise RejouleError(
            f"cannot read {path}: {error.strerror}", "give the path of a trace that you may read"
        ) from error
