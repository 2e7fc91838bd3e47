"""Processes, their signals, their logs and the cores that they may use."""
