"""A tool-calling agent with LangGraph and OpenAI's SDK, as a tutorial would write it; nothing in it knows of ReJoule.

rejoule record examples/weather_agent.py:graph -o weather.jsonl
"""

import json
import operator
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from openai import OpenAI

client = OpenAI()

SYSTEM = {"role": "system", "content": "You are a helpful assistant. Use the tools you have."}
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Look up the weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def get_weather(city: str) -> str:
    return f"It is always sunny in {city}."


class State(TypedDict):
    messages: Annotated[list[Any], operator.add]


def agent(state: State) -> State:
    prompt: Any = [SYSTEM, *state["messages"]]
    answer = client.chat.completions.create(model="gpt-4o-mini", messages=prompt, tools=[WEATHER], temperature=0)
    return {"messages": [answer.choices[0].message.model_dump(exclude_none=True)]}


def tools(state: State) -> State:
    answers = []
    for call in state["messages"][-1]["tool_calls"]:
        text = get_weather(**json.loads(call["function"]["arguments"]))
        answers.append({"role": "tool", "tool_call_id": call["id"], "content": text})
    return {"messages": answers}


def wants_tools(state: State) -> str:
    return "tools" if state["messages"][-1].get("tool_calls") else END


builder = StateGraph(State)
builder.add_node("agent", agent)
builder.add_node("tools", tools)
builder.add_edge(START, "agent")
builder.add_conditional_edges("agent", wants_tools, ["tools", END])
builder.add_edge("tools", "agent")
graph = builder.compile()
