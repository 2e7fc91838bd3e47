"""Loggers: what is told of a run besides its folder."""
