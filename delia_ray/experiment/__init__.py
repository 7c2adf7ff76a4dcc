"""Arms by ratios, sizes and seeds, in one comparison (METHOD 6)."""
