"""What a real vLLM on the CPU needs of its environment, on a machine with few cores."""

from __future__ import annotations

import os
from pathlib import Path

CALM = Path(__file__).parent / "calm"


def vllm_environment() -> dict[str, str]:
    """This process's, and what the servers that it starts go by."""
    paths = [str(CALM), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        # Threads that wait for each other crawl on busy cores.
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(paths),
    }
