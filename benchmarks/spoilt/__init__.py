"""Whether spoilt files and broken servers end in what was asked for, or in one line that says what is wrong."""
