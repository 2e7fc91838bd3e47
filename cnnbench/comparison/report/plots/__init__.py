"""Plots of a comparison: PNG and SVG, drawn with matplotlib."""
