"""Checkpoints of an unfinished training run: writing them, and resuming from the newest one."""
