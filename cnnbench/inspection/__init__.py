"""What a model is, layer by layer: described, aligned with another, shown in tables, plots and a page."""
