"""Metrics of each training step: losses by kind of row and token, norms, speed, model FLOPs utilization; and the log that they go to."""
