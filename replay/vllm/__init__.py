"""vLLM: the servers that ReJoule starts, what it asks of them on their command line, and what runs inside them."""
