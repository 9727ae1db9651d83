"""``python -m rejoule.replay`` is the command ``rejoule``."""

from rejoule.replay.cli.main import main

main()
