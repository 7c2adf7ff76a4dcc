"""Serving of finished models with Ray Serve LLM and vLLM behind one OpenAI-compatible endpoint."""
