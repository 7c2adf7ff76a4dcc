"""Query sources: Magpie, user files, data sets of the hub, Self-Instruct, and blends of these."""
