"""What of a trace Parrot is told: calls as templates, and which of them it may hold as a graph of its own. Pure.

A call that depends on others by their answers alone can be submitted before they have ended: where its prompt quotes an
answer as a whole, Parrot's semantic variable stands there. All other calls are submitted when they are due.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rejoule.replay.policy.future import is_sent
from rejoule.traces import RejouleError, Trace
from rejoule.traces.model import Call, EdgeSet, Workflow
from rejoule.traces.run import CONTINUOUS, Configuration
from rejoule.traces.work import left_out

AHEAD: Final = "ahead_gap_s"
"""The option by which a user gives up the client's own time between two calls, up to so many seconds."""
ANSWER: Final = "answer"
SHORTEST: Final = 4
"""Fewer characters than this may stand in a prompt without having been quoted."""
JOINT: Final = "\n\n"
"""Between the messages of a chat, which Parrot takes as one text."""
SAMPLED: Final = ("temperature", "top_p", "presence_penalty", "frequency_penalty")
UNSENT: Final = ("tools", "response_format", "seed", "stop", "logit_bias", "top_k", "min_p", "repetition_penalty")


@dataclass(frozen=True, slots=True)
class Template:
    """A semantic call: its text, what stands in its places, and the sampling of its answer."""

    text: str
    values: Mapping[str, str]
    """By place, a text."""
    quoted: Mapping[str, str]
    """By place, the call whose answer stands there."""
    sampling: Mapping[str, Any]

    def payload(self, session: int, variables: Mapping[str, str]) -> dict[str, Any]:
        """The body of ``POST /v1/semantic_call``; ``variables`` has Parrot's name of each quoted call's answer."""
        places: list[dict[str, Any]] = [{"name": n, "is_output": False, "value": v} for n, v in self.values.items()]
        places += [{"name": n, "is_output": False, "var_id": variables[c]} for n, c in self.quoted.items()]
        places += [{"name": ANSWER, "is_output": True, "sampling_config": dict(self.sampling)}]
        return {
            "session_id": session,
            "session_auth": "1",
            "func_name": "call",
            "template": self.text,
            "parameters": places,
            "models": [],
            "model_type": "text",
            "remove_pure_fill": True,
        }


def template(body: Mapping[str, Any], answers: Mapping[str, str]) -> Template:
    """A call as Parrot takes it. ``body`` is its request as other servers get it; ``answers`` are those
    that it quotes, by call.

    A system message in front is constant text, by which Parrot sees that calls begin alike. All else is given as
    values, so that nothing in a prompt is taken for one of Parrot's places.
    """
    texts = _texts(body)
    constant = ""
    if _has_system(body) and len(texts) > 1 and "{{" not in texts[0]:
        constant, texts = texts[0] + JOINT, texts[1:]
    pieces: list[tuple[str | None, str]] = [(None, JOINT.join(texts))]
    for source, answer in sorted(answers.items(), key=lambda pair: (-len(pair[1]), pair[0])):
        pieces = [cut for piece in pieces for cut in _cut(piece, source, answer)]
    values: dict[str, str] = {}
    quoted: dict[str, str] = {}
    text = constant
    for number, (of, piece) in enumerate(piece for piece in pieces if piece[0] is not None or piece[1]):
        name = f"piece{number}"
        if of is None:
            values[name] = piece
        else:
            quoted[name] = of
        text += "{{" + name + "}}"
    sampling = {name: body[name] for name in SAMPLED if isinstance(body.get(name), int | float)}
    return Template(text + "{{" + ANSWER + "}}", values, quoted, {**sampling, "max_gen_length": body["max_tokens"]})


def changed(call: Call, quotes: bool) -> tuple[str, ...]:
    """In what a call through Parrot is not just the recorded one."""
    found = ["its answer as long as the server chose, up to the recorded length"]
    messages = call.request.get("messages") or ()
    if len(messages) > 1:
        found.append("its messages as one text")
    if any(not _is_text(message) for message in messages):
        found.append("without what of its messages is no text")
    if missing := [name for name in UNSENT if call.request.get(name) not in (None, [], {})]:
        found.append(f"without its {', '.join(missing)}")
    if quotes:
        found.append("quoting this run's answers, not the recorded ones")
    return tuple(found)


def ahead(trace: Trace, edge_set: EdgeSet, configuration: Configuration) -> dict[str, dict[str, str]]:
    """The calls that can be submitted before they are due, and by name the answers that they wait for and quote.

    That needs that nothing but answers of calls stands before it, each quoted as a whole, and that the client's own
    time in between is no longer than ``ahead_gap_s`` (0). None where a policy or a limit says when calls go out, or
    where prompts are scaled.
    """
    c = configuration
    if c.policy is not None or c.concurrency is not None or c.batching != CONTINUOUS or c.input_scale != 1:
        return {}
    most_s = float(c.options.get(AHEAD, 0.0))
    return {
        name: answers
        for workflow in trace.workflows
        for name, answers in _ahead(workflow, edge_set, c.time_scale, most_s).items()
    }


def _ahead(workflow: Workflow, edge_set: EdgeSet, time_scale: float, most_s: float) -> dict[str, dict[str, str]]:
    waits = workflow.predecessors(edge_set)
    found: dict[str, dict[str, str]] = {}
    for name, vertex in workflow.vertices.items():
        gap_s = workflow.gaps_ns[name] / 1e9 * time_scale
        if not waits[name] or workflow.streamed.get(name) or gap_s > most_s or not is_sent(vertex):
            continue
        assert isinstance(vertex, Call)
        text = JOINT.join(_texts(vertex.request)[1 if _has_system(vertex.request) else 0 :])
        answers = {source: _answer(workflow.vertices[source]) for source in waits[name]}
        if all(len(answer) >= SHORTEST and answer in text for answer in answers.values()):
            found[name] = answers
    return found


def check_texts_for_parrot(trace: Trace) -> None:
    """Raises RejouleError for prompts that are no text, which is all that Parrot takes of another's engine."""
    for call in trace.calls:
        if left_out(call) is None and not any(_texts(call.request)):
            raise RejouleError(
                f"Parrot takes prompts as text, and {call.id} has none",
                "record the trace with its texts, or replay on sim, vllm or a server's URL",
            )


def _answer(vertex: object) -> str:
    return (vertex.text or "").strip() if isinstance(vertex, Call) and is_sent(vertex) else ""


def _has_system(body: Mapping[str, Any]) -> bool:
    messages: Sequence[Mapping[str, Any]] = body.get("messages") or ()
    return bool(messages) and messages[0].get("role") == "system"


def _texts(body: Mapping[str, Any]) -> list[str]:
    """The text of each message, or of a plain prompt; empty where there is none."""
    if isinstance(prompt := body.get("prompt"), str):
        return [prompt]
    return [_text(message.get("content")) for message in body.get("messages") or ()]


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts: Sequence[Any] = content if isinstance(content, list) else ()
    return "".join(part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str))


def _is_text(message: Mapping[str, Any]) -> bool:
    content = message.get("content")
    parts = content if isinstance(content, list) else ()
    return not message.get("tool_calls") and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in parts)


def _cut(piece: tuple[str | None, str], source: str, answer: str) -> list[tuple[str | None, str]]:
    of, text = piece
    if of is not None:
        return [piece]
    found: list[tuple[str | None, str]] = []
    for stretch in text.split(answer):
        found += [(source, answer), (None, stretch)]
    return found[1:]
