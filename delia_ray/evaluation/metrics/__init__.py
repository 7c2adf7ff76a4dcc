"""Metrics of answers: text, format and corpus metrics, custom metrics, and constant answers. Imports neither Ray nor torch."""
