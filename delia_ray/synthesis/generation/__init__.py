"""Generation of completions: the completion cache, and strategies that generate what it does not hold."""
