"""Rewrite the task's instruction: wordings from a grammar or a model, one filter for all of them, and disjoint splits."""
