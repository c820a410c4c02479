"""The report of a benchmark: results, tables, plots."""
