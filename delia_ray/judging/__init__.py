"""Learned metrics, each in an environment of its own."""
