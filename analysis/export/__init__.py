"""Runs in the formats of other tools: a file a format, each pure; `files` writes what they make."""
