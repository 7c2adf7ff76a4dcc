"""Wordings of one instruction: written by a grammar or a model, let through by one gate, dealt into disjoint splits."""
