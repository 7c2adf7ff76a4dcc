"""Diverse data: the model asks itself unrelated questions and answers them."""
