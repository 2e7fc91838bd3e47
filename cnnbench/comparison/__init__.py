"""`cnnbench compare`: which choice won, by how much, and whether that is noise.

    records         what lies on disk, run by run
    configurations  runs that differ in nothing but the seed, and the settings that differ
    rows            what a table shows of them
    statistics      intervals, p-values and their correction
    effects         what each value of an axis does, paired by everything else
    notes           what would make the comparison unfair
    comparison      all of it, as one value and as plain data

What shows it (terminal, files, page, plots, W&B) reads a `Comparison` and computes nothing.
"""
