"""What can be said of a run before it starts: mistakes, finished steps, rows, tokens and memory. Nothing is started or written."""
