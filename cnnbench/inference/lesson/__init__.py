"""`cnnbench lesson`: a page on which a trained network is taken apart, layer by layer."""
