"""What a run found, as one JSON record and one self-contained page."""
