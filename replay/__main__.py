"""``python -m rejoule.replay`` is the command ``rejoule``."""

from rejoule.replay.cli import main

main()
