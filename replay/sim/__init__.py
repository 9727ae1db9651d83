"""A vLLM-like engine without a GPU: one step engine, in virtual time or behind an OpenAI-compatible server."""
