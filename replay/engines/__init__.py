"""What answers calls: the simulated engine in virtual time, or a server at a URL."""
