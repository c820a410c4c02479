"""Folders of benchmarks for the tests of the report."""

from __future__ import annotations

import pytest

from .folders import BenchmarkFolder


@pytest.fixture
def benchmark_folder(tmp_path):
    """Return what writes a benchmark's folder."""
    return lambda *args, **kwargs: BenchmarkFolder(tmp_path / "benchmark", *args, **kwargs)
