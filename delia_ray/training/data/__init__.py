"""Training data: tokenization of a mixture, batch sampling, sequence packing."""
