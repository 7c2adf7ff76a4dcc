"""Learned metrics (COMET, BLEURT), computed in Ray tasks with separate Python environments."""
