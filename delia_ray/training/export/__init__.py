"""Export of a checkpoint to a Hugging Face model folder, and the check that transformers and vLLM give the same answers from it."""
