"""How fast a model is on a device, how much memory it takes, and whether it computes the same there."""
