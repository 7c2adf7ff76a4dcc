"""Fine-tuning of the base model on a mixture: Ray Train runs the workers, DeepSpeed the optimizer, PEFT the adapter."""
