"""Worklists of the simulated hospital."""

from __future__ import annotations

import pytest


@pytest.fixture
def fill(fill_worklist):
    return fill_worklist
