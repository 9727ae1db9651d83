"""The command line: each subcommand in a file of its own, loaded when it is called."""
