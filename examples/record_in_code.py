"""Records a graph from Python, where a command line is not enough: your own inputs, config, and context.

python examples/record_in_code.py sim rhymes.jsonl      or, instead of sim, the URL of a server
"""

import asyncio
import operator
import sys
from typing import Annotated, TypedDict

from langgraph.graph import START, StateGraph
from langgraph.types import Send
from openai import AsyncOpenAI

import rejoule


class State(TypedDict):
    words: list[str]
    rhymes: Annotated[list[str], operator.add]


class Word(TypedDict):
    word: str


def rhymes() -> StateGraph[State]:
    """Finds a rhyme for each word, side by side, and makes one poem of them."""
    client = AsyncOpenAI()

    async def ask(prompt: str) -> str:
        answer = await client.chat.completions.create(model="any", messages=[{"role": "user", "content": prompt}])
        return answer.choices[0].message.content or ""

    async def rhyme(state: Word) -> dict[str, list[str]]:
        return {"rhymes": [await ask(f"What rhymes with {state['word']}?")]}

    async def poem(state: State) -> dict[str, list[str]]:
        return {"rhymes": [await ask("Make a poem of these:\n" + "\n".join(state["rhymes"]))]}

    graph: StateGraph[State] = StateGraph(State)
    graph.add_node("rhyme", rhyme)
    graph.add_node("poem", poem)
    graph.add_conditional_edges(START, lambda state: [Send("rhyme", {"word": w}) for w in state["words"]], ["rhyme"])
    graph.add_edge("rhyme", "poem")
    return graph


async def main(engine: str, output: str) -> None:
    inputs = [{"words": words, "rhymes": []} for words in (["sun", "moon"], ["joule", "watt", "volt"])]
    trace = await rejoule.record_async(rhymes, inputs, engine=engine, output=output, name="rhymes")
    for workflow in trace.workflows:
        print(f"{workflow.id}: {len(workflow.calls)} calls, {len(workflow.edges)} edges, {workflow.status}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
