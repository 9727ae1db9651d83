"""Tells a recording from which node a request comes, whatever library sends it, and in whatever process.

Needs nothing but the standard library, as worker processes load it too.
"""
