"""What is said of a run or of several: figures, conditions, names and units, the same for a terminal and a page."""
