"""Engines that complete prompts: vLLM on actors, a server with the OpenAI API, or an echo."""
