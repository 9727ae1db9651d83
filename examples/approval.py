"""A graph that asks a person before it goes on; ``--resume`` answers for the person while recording.

rejoule record examples/approval.py:graph -o approval.jsonl --input '{"topic": "rain"}' --resume yes
"""

from typing import TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt
from openai import OpenAI

client = OpenAI()


class State(TypedDict, total=False):
    topic: str
    draft: str
    approved: bool


def ask(prompt: str) -> str:
    answer = client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": prompt}])
    return answer.choices[0].message.content or ""


def write(state: State) -> State:
    return {"draft": ask(f"Write one line about {state['topic']}.")}


def approve(state: State) -> State:
    return {"approved": interrupt({"publish?": state["draft"]}) == "yes"}


def publish(state: State) -> State:
    return {"draft": ask(f"Make a headline of this: {state['draft']}")}


builder = StateGraph(State)
builder.add_node("write", write)
builder.add_node("approve", approve)
builder.add_node("publish", publish)
builder.add_edge(START, "write")
builder.add_edge("write", "approve")
builder.add_conditional_edges("approve", lambda state: "publish" if state["approved"] else END, ["publish", END])
graph = builder
