"""vLLM servers that ReJoule starts, watches, describes and ends.

``ManagedServer`` is one server, ``ReusedServer`` the one that is up, for one trial after another;
``reset_prefix_cache`` makes and
proves a cold cache. ``supervisor`` explains why no process is left behind. ``testing`` has a stand-in for vLLM.
"""

from rejoule.replay.vllm.server.cache import ColdCache, reset_prefix_cache
from rejoule.replay.vllm.server.command import Launch, command
from rejoule.replay.vllm.server.installation import Vllm, find_vllm
from rejoule.replay.vllm.server.metrics import Counters, fetch_counters, parse_counters
from rejoule.replay.vllm.server.options import Plugin, ServerOptions, server_key
from rejoule.replay.vllm.server.reuse import ReusedServer, with_blocks_pinned
from rejoule.replay.vllm.server.server import ManagedServer, Progress

__all__ = [
    "ColdCache",
    "Counters",
    "Launch",
    "ManagedServer",
    "Plugin",
    "Progress",
    "ReusedServer",
    "ServerOptions",
    "Vllm",
    "command",
    "fetch_counters",
    "find_vllm",
    "parse_counters",
    "reset_prefix_cache",
    "server_key",
    "with_blocks_pinned",
]
