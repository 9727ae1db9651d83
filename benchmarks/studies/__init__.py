"""Studies: experiments with a page each, made again by one command."""
