"""The outputs of a comparison: terminal, files, page, plots and W&B. Nothing is computed here."""
