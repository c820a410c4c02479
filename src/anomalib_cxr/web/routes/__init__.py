"""Routes of the worklist page."""
