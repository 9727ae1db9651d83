"""Scheduling policies: which call goes out next, which is held, and with what priority."""
