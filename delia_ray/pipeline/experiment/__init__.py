"""Arms by ratios, sizes and seeds, in one comparison."""
