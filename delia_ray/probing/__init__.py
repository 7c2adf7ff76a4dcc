"""What the method's theory predicts, measured on a run's own models."""
