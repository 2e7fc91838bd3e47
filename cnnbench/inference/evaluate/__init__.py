"""`cnnbench evaluate`: detailed evaluation of a finished run, on its own images or on others.

`images` selects the images, `metrics` computes, `terminal` and `files` present the result.
"""
