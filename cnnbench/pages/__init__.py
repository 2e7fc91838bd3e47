"""Offline pages: single HTML files that contain their data, scripts and styles. `shell` builds them."""
