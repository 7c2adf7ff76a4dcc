"""Probes of trained models: the predictions of the theory from gradients, and the meaning of the new token from hidden states."""
