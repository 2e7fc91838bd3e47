"""Data sets, their splits, and batches for training and evaluation."""
