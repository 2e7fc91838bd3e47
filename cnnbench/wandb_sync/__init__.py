"""Upload of W&B runs that were logged offline."""
