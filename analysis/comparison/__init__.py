"""One comparison: a figure's pairs, the family of claims that it is one of, and what no trial shows of it."""
