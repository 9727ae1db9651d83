"""Read by every Python that has this folder on its ``PYTHONPATH``: what would spin, sleeps.

vLLM's processes wait for each other in loops of ``sched_yield``. With as many of them as cores, Linux 6.18 was seen to
run nothing else for seconds, its own threads included: then the client of a test is late, and nothing can be told.
"""

import os
import time

os.sched_yield = lambda: time.sleep(50e-6)
