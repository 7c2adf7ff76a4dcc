"""Score finished models: what they answered, how good that is, and how sure one can be of it."""
