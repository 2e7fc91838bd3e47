"""Loggers: what is recorded of a run outside its folder's own files (W&B, TensorBoard, CSV)."""
