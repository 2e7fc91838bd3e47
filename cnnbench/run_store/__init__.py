"""Runs on disk: where they lie, what is in them, who trains them. Needs no torch."""
