"""The agent of weather_agent.py with LangChain's model and tools; nothing in it knows of ReJoule.

pip install langchain-openai
rejoule record examples/langchain_agent.py:graph -o weather.jsonl
"""

from typing import Annotated, TypedDict

from langchain_core.messages import AnyMessage, SystemMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode, tools_condition


@tool
def get_weather(city: str) -> str:
    """Look up the weather in a city."""
    return f"It is always sunny in {city}."


tools = [get_weather]
llm = ChatOpenAI(model="gpt-4o-mini", temperature=0).bind_tools(tools)


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


def agent(state: State) -> dict[str, list[AnyMessage]]:
    system = SystemMessage("You are a helpful assistant. Use the tools you have.")
    return {"messages": [llm.invoke([system, *state["messages"]])]}


builder = StateGraph(State)
builder.add_node("agent", agent)
builder.add_node("tools", ToolNode(tools))
builder.add_edge(START, "agent")
builder.add_conditional_edges("agent", tools_condition)
builder.add_edge("tools", "agent")
graph = builder.compile()
