"""The report on a benchmark's folder: tables and figures in `report.html`, `report.md` and CSV files."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from anomalib_cxr.evaluation.figures import CAPTION
from anomalib_cxr.utils.files import atomic_path

from .comparisons import compare_systems
from .measures import measure_runs
from .results import read_results
from .sections import remove_other_figures, report_sections

HTML, MARKDOWN = "report.html", "report.md"
SHORT = 20
"""Letters of a line that fits into a column of a table."""


def write_report(folder: Path) -> Path:
    """Write the report on a benchmark, finished or not, from what its folder holds.

    The folder gets `report.html`, which needs no other file; `report.md` with `figures/*.png`; `results.csv`, a row for
    each figure that was measured; and `comparisons.csv`, a row for each two systems. Residual sheets, which may show
    patients, go into the HTML alone.

    Args:
        folder: See :func:`anomalib_cxr.benchmark.report.results.read_results`.

    Returns:
        The path of `report.html`.

    Raises:
        CxrError: If the folder is not that of a benchmark.
    """
    results = read_results(folder)
    measured = measure_runs(results)
    comparisons = compare_systems(results)
    _write_csv(measured, folder / "results.csv")
    _write_csv(comparisons, folder / "comparisons.csv")
    sections = report_sections(results, measured, comparisons)
    page = {"title": results.config["title"], "disclaimer": CAPTION, "sections": sections}
    for name in (MARKDOWN, HTML):
        with atomic_path(folder / name) as unfinished:
            unfinished.write_text(_render(name, page), encoding="utf-8")
    remove_other_figures([picture for section in sections for picture in section.pictures], folder)
    return folder / HTML


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    with atomic_path(path) as unfinished:
        table.to_csv(unfinished, index=False, float_format="%.6g")


def _render(name: str, page: dict[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader("anomalib_cxr.benchmark.report"),
        autoescape=select_autoescape(["html.jinja"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"cell": _markdown_cell, "unbroken": _unbroken}
    return environment.get_template(f"{name}.jinja").render(page)


def _markdown_cell(words: str) -> str:
    r"""Return the words of a cell on one line of Markdown; a reason may hold any character.

    Example:
        >>> print(_markdown_cell("<a>|b"))
        &lt;a&gt;\|b
    """
    return escape(words, quote=False).replace("|", r"\|").replace("\n", "<br>")


def _unbroken(words: str) -> str:
    r"""Return the words of a cell such that an interval stays on one line and a reason need not.

    Example:
        >>> _unbroken("[0.4, 0.6]").split(" ")
        ['[0.4,\xa00.6]']
    """
    lines = words.split("\n")
    return "\n".join(line.replace(" ", "\N{NO-BREAK SPACE}") if len(line) < SHORT else line for line in lines)
