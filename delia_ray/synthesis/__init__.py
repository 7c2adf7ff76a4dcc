"""Synthesis of diverse data: the model generates queries and answers them; what is not usable is filtered out."""
