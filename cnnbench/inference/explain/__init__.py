"""`cnnbench explain`: what a trained run has learned, in pictures."""
