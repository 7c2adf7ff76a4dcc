"""Fine-tune the start model on a mixture: Ray Train runs the workers, DeepSpeed the optimiser, PEFT the adapter."""
