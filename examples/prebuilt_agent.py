"""LangChain's prebuilt agent with two tools, made by a function.

pip install langchain langchain-openai
rejoule record examples/prebuilt_agent.py:make_agent -o agent.jsonl --workflows 4
"""

from typing import Any

from langchain.agents import create_agent
from langchain_core.tools import tool


@tool
def multiply(a: float, b: float) -> float:
    """Multiply two numbers."""
    return a * b


@tool
def search(query: str) -> str:
    """Search the handbook."""
    return f"The handbook says nothing about {query}."


def make_agent() -> Any:
    return create_agent("openai:gpt-4o-mini", [multiply, search], system_prompt="You answer in one sentence.")
