"""Sweeps that never lose a run: `cells` -> `plan` -> `drive`, on a pool of `worker`s (`local`)."""
