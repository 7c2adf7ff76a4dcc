"""The steps of a run in order, and the verbs that are made of many runs."""
