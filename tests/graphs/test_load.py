"""Finding and making graphs: factories, langgraph.json, and files whose names others have, too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rejoule.graphs.failures import lacking
from rejoule.graphs.load import opened_graph
from rejoule.graphs.made import one_line
from rejoule.graphs.project import remarks_on
from rejoule.graphs.situation import NOTHING, situation
from rejoule.traces.errors import RejouleError

BUILDER = """
from typing import TypedDict
from langgraph.graph import START, StateGraph
class State(TypedDict):
    topic: str
def builder(name="node"):
    made = StateGraph(State)
    made.add_node(name, lambda state: {})
    made.add_edge(START, name)
    return made
"""

FACTORIES = f"""
from contextlib import asynccontextmanager, contextmanager
from functools import partial
{BUILDER}
closed = []
def plain(): return builder()
def by_config(config): return builder(config["configurable"]["name"])
async def later(config: dict): return builder(config["configurable"]["name"]).compile()
def optional(config=None): return builder(config["configurable"]["name"])
@contextmanager
def held(config):
    yield builder(config["configurable"]["name"])
    closed.append("held")
@asynccontextmanager
async def aheld(config):
    yield builder(config["configurable"]["name"])
    closed.append("aheld")
async def yielding(config):
    yield builder(config["configurable"]["name"])
    closed.append("yielding")
class Maker:
    def __call__(self, config): return builder(config["configurable"]["name"])
maker = Maker()
bound = partial(builder, name="node")
"""


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a load leaves in the process is taken back."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    before = dict(sys.modules)
    yield
    for name in sys.modules.keys() - before.keys():
        if name.startswith(("_recorded_", "factories", "pack", "agent")):
            del sys.modules[name]


async def nodes(target: object, **configurable: Any) -> list[str]:
    async with opened_graph(str(target), {"configurable": configurable}) as graph:
        return [name for name in graph.nodes if name != "__start__"]


@pytest.mark.parametrize(
    "name", ["plain", "by_config", "later", "optional", "held", "aheld", "yielding", "Maker", "maker", "bound"]
)
async def test_factories(tmp_path: Path, name: str) -> None:
    """Whatever makes a graph is given the config if it takes it, and closed when the recording is over."""
    (tmp_path / "factories.py").write_text(FACTORIES)
    assert await nodes(f"{tmp_path / 'factories.py'}:{name}", name="node") == ["node"]
    closes = name in ("held", "aheld", "yielding")
    module = next(m for n, m in sys.modules.items() if n in ("factories", "_recorded_factories"))
    assert module.closed == ([name] if closes else [])


async def test_factory_without_its_key(tmp_path: Path) -> None:
    """A factory that lacks a configurable key says which option gives it."""
    (tmp_path / "factories.py").write_text(FACTORIES)
    with pytest.raises(RejouleError) as caught:
        await nodes(f"{tmp_path / 'factories.py'}:by_config")
    assert "--configurable name=VALUE" in caught.value.remedy


def project(folder: Path) -> Path:
    (folder / "lib").mkdir()
    (folder / "lib" / "helping.py").write_text(BUILDER)
    (folder / "agent.py").write_text("import os\nfrom helping import builder\ngraph = builder(os.environ['NAME_OF'])")
    (folder / ".env").write_text("# names\nexport NAME_OF='of env' # why\n")
    file = folder / "langgraph.json"
    place = "./agent.py:graph"
    said = {"graphs": {"one": place, "two": {"path": place}}, "env": ".env", "dependencies": ["./lib", "openai"]}
    file.write_text(json.dumps(said))
    return file


@pytest.mark.parametrize("form", ["{file}:one", "{file}:two", "{folder}:one"])
async def test_langgraph_json(tmp_path: Path, form: str) -> None:
    """Its graphs are found by name, with its environment and folders; the environment is put back."""
    file = project(tmp_path)
    assert await nodes(form.format(file=file, folder=tmp_path)) == ["of env"]
    assert "NAME_OF" not in os.environ


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"graphs": {}}, "names no graphs"),
        ({"graphs": {"one": 3}}, "graph 'one' has no place"),
        ({"env": "none.env"}, "cannot read"),
        ({"env": 3}, "neither a file's name nor an object"),
        ({"dependencies": "."}, "are no list"),
        ({}, "names 2 graphs"),
    ],
)
async def test_mistakes_in_langgraph_json(tmp_path: Path, change: dict[str, Any], what: str) -> None:
    """Each is told in a line."""
    file = project(tmp_path)
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(RejouleError) as caught:
        await nodes(file)
    assert what in caught.value.what


STORING = """
from typing import TypedDict
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime

class State(TypedDict):
    seen: int

async def node(state: State, runtime: Runtime):
    await runtime.store.aput(("notes",), str(state["seen"]), {})
    return {"seen": len(await runtime.store.asearch(("notes",)))}

graph = StateGraph(State).add_node(node).add_edge(START, "node").compile()
"""


async def test_langgraph_json_gives_a_store(tmp_path: Path) -> None:
    """A graph without a store has one, which all its runs share, by its langgraph.json; by its file, it is told how."""
    (tmp_path / "agent.py").write_text(STORING)
    file = tmp_path / "langgraph.json"
    file.write_text(json.dumps({"graphs": {"one": "./agent.py:graph"}}))
    async with opened_graph(str(file), {}) as graph:
        assert [(await graph.ainvoke({"seen": i}))["seen"] for i in range(2)] == [1, 2]
    async with opened_graph(f"{tmp_path / 'agent.py'}:graph", {}) as graph:
        with pytest.raises(AttributeError) as caught:
            await graph.ainvoke({"seen": 0})
    hint = lacking(graph, NOTHING, one_line(caught.value))
    assert hint is not None and "langgraph.json" in hint and "store=" in hint


@pytest.mark.parametrize(("store", "remarks"), [({"index": {"embed": "e"}}, 1), ({}, 0), (3, 0)])
def test_an_index_that_is_not_made_is_told(tmp_path: Path, store: Any, remarks: int) -> None:
    """A store that should find by meaning is made without, and that is said."""
    file = project(tmp_path)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"store": store}))
    assert len(remarks_on(f"{file}:one")) == remarks


async def test_relative_imports(tmp_path: Path) -> None:
    """A file inside a package is a module of it, also where it has the package's name."""
    folder = tmp_path / "pack"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "parts.py").write_text(BUILDER)
    (folder / "pack.py").write_text("from .parts import builder\nfrom pack.parts import State\ngraph = builder()")
    assert await nodes(f"{folder / 'pack.py'}:graph") == ["node"]


@pytest.mark.parametrize("name", ["openai", "langgraph", "queue", "colorsys", "jsonschema"])
def test_names_that_others_have(tmp_path: Path, name: str) -> None:
    """A file may be called like an installed module or one of the standard library, and import that."""
    (tmp_path / f"{name}.py").write_text(
        f"{BUILDER}\nimport {name}\nassert {name}.__file__ != __file__\ngraph = builder()"
    )
    code = (
        "import asyncio, sys\nfrom rejoule.graphs.load import opened_graph\n"
        f"sys.modules.pop({name!r}, None) if {name in ('colorsys', 'jsonschema')} else None\n"
        "async def main():\n    async with opened_graph(sys.argv[1], {}) as graph:\n        print(list(graph.nodes))\n"
        "asyncio.run(main())"
    )
    done = subprocess.run([sys.executable, "-c", code, f"{tmp_path / name}.py:graph"], capture_output=True, text=True)
    assert "'node'" in done.stdout, done.stderr


async def test_missing_module_of_another(tmp_path: Path) -> None:
    """The remedy names who needs the module, and guesses no package's name."""
    (tmp_path / "helper_of_agent.py").write_text("import yaml_of_nobody.parts")
    (tmp_path / "agent_of_mine.py").write_text("import helper_of_agent")
    with pytest.raises(RejouleError) as caught:
        await nodes(f"{tmp_path / 'agent_of_mine.py'}:graph")
    assert "imported by helper_of_agent.py" in caught.value.what
    assert "the module 'yaml_of_nobody'" in caught.value.remedy
    assert "pip install yaml" not in caught.value.remedy


@pytest.mark.parametrize(
    ("words", "what"),
    [(("{", None), "--context is no JSON"), ((None, "[]"), "no RunnableConfig"), (("@none.json", None), "cannot read")],
)
def test_situations_that_are_none(words: tuple[str | None, str | None], what: str) -> None:
    """What is no JSON, or no config, is refused in a line."""
    with pytest.raises(RejouleError) as caught:
        situation(*words, {})
    assert what in caught.value.what


def test_situation(tmp_path: Path) -> None:
    """Files and single keys join."""
    (tmp_path / "config.json").write_text('{"configurable": {"a": 1}, "tags": ["x"]}')
    found = situation('{"tone": "plain"}', f"@{tmp_path / 'config.json'}", {"b": 2})
    assert found.context == {"tone": "plain"}
    assert found.config == {"configurable": {"a": 1, "b": 2}, "tags": ["x"]}
