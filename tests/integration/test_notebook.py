"""The notebook of the tutorial, executed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "tutorial.ipynb"
nbclient = pytest.importorskip("nbclient", reason="nbclient, which executes notebooks, is not installed")
nbformat = pytest.importorskip("nbformat", reason="nbformat, which nbclient needs, is not installed")
pytest.importorskip("ipykernel", reason="ipykernel, the kernel of notebooks, is not installed")


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def code_of(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_is_kept_without_outputs(notebook):
    assert [(cell.outputs, cell.execution_count) for cell in code_of(notebook)] == [([], None)] * 4


@pytest.mark.slow
def test_runs_and_detects(notebook, tmp_path):
    nbclient.NotebookClient(notebook, timeout=500, resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [output for cell in code_of(notebook) for output in cell.outputs]
    _, metrics = (output.data["text/plain"] for output in outputs if output.output_type == "execute_result")
    assert float(re.search(r"'image_AUROC': ([\d.]+)", metrics)[1]) >= 0.95
    assert [output for output in outputs if "image/png" in output.get("data", {})] == outputs[-1:]  # the figure
