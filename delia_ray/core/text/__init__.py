"""Word segmentation, text overlap and ROUGE-L, and regular expressions with a time limit."""
