"""Texts as vectors, for whatever compares meanings."""
