"""The server that answers with made-up words and real control flow, in front of the simulated engine."""
