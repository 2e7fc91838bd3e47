"""Runs on disk: their folders, files and leases. Needs no torch."""
