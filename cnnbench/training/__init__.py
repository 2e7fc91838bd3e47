"""One training: from settings to a finished run."""
