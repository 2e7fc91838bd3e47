"""Use of trained runs: evaluate, predict, export."""
