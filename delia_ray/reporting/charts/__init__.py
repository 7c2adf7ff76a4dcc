"""Charts as inline SVG, whose colors and font follow the page around them."""
