"""Looks inside the models: what the theory predicts, and what the new token has come to mean."""
