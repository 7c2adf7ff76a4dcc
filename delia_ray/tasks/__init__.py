"""Downstream tasks: what to learn, and how to tell whether it was learnt."""
