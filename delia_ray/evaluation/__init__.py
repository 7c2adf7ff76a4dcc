"""Evaluation of finished models: generate answers, compute metrics, estimate confidence intervals."""
