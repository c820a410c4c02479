"""Files and provenance."""
