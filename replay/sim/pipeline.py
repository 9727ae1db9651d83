"""When the outputs of engine steps are out: host and GPU work at the same time.

vLLM's engine launches a step while the GPU computes the one before it, and takes over that one's output only then
(``v1/engine/core.py``: ``step_with_batch_queue``). Let g_k be what the GPU needs for step k, and h_k what the host
needs to choose and launch it, which it begins when it has taken over the output O_{k-2}:

    H_k = O_{k-2} + h_k                               launched
    G_k = max(max(G_{k-1}, O_{k-2}) + g_k, H_k + r)   computed: kernels run as they are launched, the last ones take r
    O_k = max(G_k, H_{k+1})                           its output is out

A step before which there was nothing to do is launched at once, and the next one as soon as that is done. So prompts
delay the output of the step before theirs, by as much as the host needs for them.
"""

from __future__ import annotations

from collections.abc import Sequence


def span_s(
    steps: Sequence[tuple[float, float]], first_s: float | None, next_host_s: float, last_kernels_s: float = 0.0
) -> float:
    """How long some steps in a row take, each (g, h), from the last output before them to their own last.

    ``first_s`` is ``None`` if the first of them was launched by then; otherwise there was nothing to do before, and
    its launch begins so many seconds later. ``next_host_s`` is h of the step after them, ``last_kernels_s`` is r.
    """
    (gpu_s, host_s), *rest = steps
    chosen_s = 0.0
    computed_s = gpu_s
    if first_s is not None:
        chosen_s = first_s + host_s
        computed_s = max(first_s + gpu_s, chosen_s + last_kernels_s)
    for gpu_s, host_s in (*rest, (0.0, next_host_s)):
        launched_s = chosen_s + host_s
        out_s = max(computed_s, launched_s)
        computed_s = max(max(computed_s, chosen_s) + gpu_s, launched_s + last_kernels_s)
        chosen_s = out_s
    return chosen_s
