"""Text embeddings: an encoder that turns texts into vectors, and the Ray Data actors that run it."""
