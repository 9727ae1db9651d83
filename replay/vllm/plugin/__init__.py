"""What a vLLM server is started with so that it emits recorded tokens and tells its steps, and how that is read."""
