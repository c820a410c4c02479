"""The plan of a benchmark: runs of a configuration."""
