"""Records a graph from Python, where a command line is not enough: your own inputs, config, and context.

python examples/record_in_code.py http://localhost:8000/v1 rhymes.jsonl
"""

import asyncio
import operator
import sys
from pathlib import Path
from typing import Annotated, TypedDict

from langgraph.graph import START, StateGraph
from langgraph.types import Send
from openai import AsyncOpenAI

from rejoule.graphs.capture import probe
from rejoule.graphs.record import record
from rejoule.traces.model import Header
from rejoule.traces.store import TraceWriter


class State(TypedDict):
    words: list[str]
    rhymes: Annotated[list[str], operator.add]


class Word(TypedDict):
    word: str


def rhymes(client: AsyncOpenAI, model: str) -> StateGraph[State]:
    """Finds a rhyme for each word, side by side, and makes one poem of them."""

    async def ask(prompt: str) -> str:
        answer = await client.chat.completions.create(model=model, messages=[{"role": "user", "content": prompt}])
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


async def main(base_url: str, output: Path) -> None:
    server = await probe(base_url)
    model = server.models[0]
    client = AsyncOpenAI(base_url=base_url, api_key=server.api_key)
    inputs = [{"words": words, "rhymes": []} for words in (["sun", "moon"], ["joule", "watt", "volt"])]
    with TraceWriter(output, Header(graph="rhymes", model=model, server=server.description)) as writer:
        recorded = await record(rhymes(client, model).compile(), inputs, server=server, writer=writer)
    for workflow in recorded.workflows:
        print(f"{workflow.id}: {len(workflow.calls)} calls, {len(workflow.edges)} edges, {workflow.status}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
