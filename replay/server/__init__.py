"""vLLM servers that ReJoule starts, watches, describes and ends.

``ManagedServer`` is one server, ``OneServer`` one after the other for an experiment; ``reset_prefix_cache`` makes and
proves a cold cache. ``keeper`` explains why no process is left behind. ``testing`` has a stand-in for vLLM.
"""

from rejoule.replay.server.cache import ColdCache, reset_prefix_cache
from rejoule.replay.server.command import Launch, command
from rejoule.replay.server.installation import Vllm, find_vllm
from rejoule.replay.server.metrics import Counters, fetch_counters, parse_counters
from rejoule.replay.server.one import OneServer, with_blocks_pinned
from rejoule.replay.server.options import Plugin, ServerOptions, server_key
from rejoule.replay.server.server import ManagedServer, Progress

__all__ = [
    "ColdCache",
    "Counters",
    "Launch",
    "ManagedServer",
    "OneServer",
    "Plugin",
    "Progress",
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
