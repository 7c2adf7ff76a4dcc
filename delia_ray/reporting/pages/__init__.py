"""HTML pages: each is rendered from a record into one self-contained file."""
