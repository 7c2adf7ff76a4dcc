"""Faster kernels for what the libraries compute. None of them changes what is learned."""
