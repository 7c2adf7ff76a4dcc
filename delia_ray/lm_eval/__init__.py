"""lm-eval (the Language Model Evaluation Harness) on the base model and every arm, and the changes by tuning."""
