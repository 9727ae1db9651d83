"""What is asked of a server so that a replay is exact, and whether it came back."""
