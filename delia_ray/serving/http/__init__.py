"""What every request passes before it reaches an engine: keys, limits, the form of its body, and the page."""
