"""`cnnbench compare`: which choice won, by how much, and whether the difference is more than noise.

    records         runs read from disk
    filter          the runs that meet conditions
    configurations  runs that differ in nothing but the seed; the settings that differ between them
    measured        measurements of `cnnbench bench` beside trained runs
    metrics         the keys of summary.json: label, unit, direction
    rows            the rows of the table
    statistics      confidence intervals, p-values and their correction
    effects         the effect of each value of a setting, from pairs of runs that differ in it alone
    responses       a metric over the values of a numeric setting
    caveats         notes on what would make the comparison unfair
    comparison      all of these combined into one `Comparison`

The modules in `report` (terminal, files, page, plots, W&B) read a `Comparison` and compute nothing.
"""
