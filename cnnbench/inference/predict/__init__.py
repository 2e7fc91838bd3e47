"""`cnnbench predict`: what a finished run takes image files for."""
