"""The predictions P1 to P5 of the theory, evaluated with intervals from inner products of gradients. Pure: no Ray, no torch."""
