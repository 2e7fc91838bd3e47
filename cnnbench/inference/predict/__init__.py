"""`cnnbench predict`: classification of image files by a finished run."""
