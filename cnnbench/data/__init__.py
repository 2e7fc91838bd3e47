"""Data sets, their splits, and the batches that training sees."""
