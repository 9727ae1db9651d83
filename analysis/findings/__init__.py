"""Whether what others found holds on these runs: a finding is a file, what it is held to is one of a few tests."""
