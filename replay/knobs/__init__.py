"""Power caps and clock locks of real GPUs: set, read back, and put back whatever happens.

``control`` sets them for one configuration after another; ``journal`` holds what was found before the first change;
``watchdog`` is a process of its own that puts it back should this one end without doing so; ``restore`` does the same
by hand.
"""
