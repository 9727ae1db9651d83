"""Scheduling policies: which call goes out next, which is held, and with what priority.

A policy of your own needs what is named here, and nothing else.
"""

from rejoule.replay.policy.interface import (
    Capacity,
    Decision,
    Done,
    Flight,
    Outlook,
    Pending,
    Policy,
    Program,
    Send,
    View,
)

__all__ = ["Capacity", "Decision", "Done", "Flight", "Outlook", "Pending", "Policy", "Program", "Send", "View"]
