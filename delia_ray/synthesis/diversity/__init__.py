"""Diversity measures of a pool of texts. Pure: texts and vectors in, numbers out."""
