"""Upload of what was logged offline."""
