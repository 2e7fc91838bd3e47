"""`cnnbench evaluate`: how good a finished run is, in detail, on its own images or on others.

`images` finds them, `metrics` computes, `terminal` and `files` show it.
"""
