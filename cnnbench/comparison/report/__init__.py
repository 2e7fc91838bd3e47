"""What shows a comparison: terminal, files, page, plots, W&B. It computes nothing."""
