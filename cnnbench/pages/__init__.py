"""Offline pages: one HTML file each, with its data, scripts and styles inside. `shell` makes them."""
