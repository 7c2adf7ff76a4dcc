"""How a number comes about again: a run's own record, the same artifact built once more, and what differs."""
