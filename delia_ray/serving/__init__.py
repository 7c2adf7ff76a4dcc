"""Finished models behind one OpenAI-compatible endpoint."""
