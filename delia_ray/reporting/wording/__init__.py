"""Text of the pages and of the terminal: sentences, and the format of numbers."""
