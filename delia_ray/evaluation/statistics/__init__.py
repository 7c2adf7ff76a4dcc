"""Confidence intervals, tests, power and corrections for clustered items. Pure functions of arrays; imports neither Ray nor torch."""
