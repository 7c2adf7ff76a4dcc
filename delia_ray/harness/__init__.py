"""Tasks of lm-eval, before and after tuning."""
