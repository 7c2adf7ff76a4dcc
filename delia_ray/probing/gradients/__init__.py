"""Per-row gradients at the base weights and after a step, and the Fisher matrix of the diverse rows."""
