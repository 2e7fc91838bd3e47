"""Use of trained runs: evaluation, prediction, explanation, export."""
