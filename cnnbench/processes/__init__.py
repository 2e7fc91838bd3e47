"""Processes of one machine: calls in processes of their own, signals, logs and CPU cores."""
