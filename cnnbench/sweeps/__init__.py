"""Sweeps that never lose a run.

`run.sweep` plans the runs (`composer`, `plan`), tests them (`preflight`) and drives them (`driver`) on a pool
(`local`, `slurm` or `ray`). `optuna_search` proposes runs instead of enumerating them.
"""
