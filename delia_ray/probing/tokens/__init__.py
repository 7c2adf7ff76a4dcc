"""Probe of the meaning of a new token: its embedding rows, its hidden states, and what a model says about it."""
