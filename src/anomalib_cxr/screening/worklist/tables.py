"""Tables of the worklist, `worklist.csv` and `worklist.json`, written whole from the database."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

from anomalib_cxr.screening.case import BELOW_THRESHOLD_NOTICE, Case
from anomalib_cxr.utils.files import atomic_path

from .store import Worklist

if TYPE_CHECKING:  # the page of a worklist is served without OpenVINO
    from anomalib_cxr.screening.calibration.record import Calibration

CSV, JSON = "worklist.csv", "worklist.json"
_COLUMNS = (
    *("path", "study_uid", "sop_uid", "decision", "score", "raw_score", "threshold", "guarantee", "probability"),
    *("p_value", "findings", "subgroup", "source", "heatmap", "screened", "model"),
)
_NAMES = ("patient_id", "patient_name")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # first characters of a cell that a spreadsheet would compute


def escape_csv_formula(cell: Any) -> Any:
    """Escape a cell that a spreadsheet would compute; a note may begin with an equals sign.

    Args:
        cell: Any value.

    Returns:
        The value; with a leading apostrophe where it begins like a formula.

    Example:
        >>> escape_csv_formula("=1+1"), escape_csv_formula("a=b"), escape_csv_formula(-0.5)
        ("'=1+1", 'a=b', -0.5)
    """
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def write_tables(worklist: Worklist, calibration: Calibration, *, names: bool = False) -> None:
    """Write both tables into the folder of the worklist.

    Args:
        worklist: The worklist.
        calibration: Calibration of the model that scored it.
        names: Include patients' names and IDs.
    """
    columns = (*_COLUMNS, *(_NAMES if names else ()))
    with atomic_path(worklist.folder / CSV) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        for row in _rows(worklist, columns):
            table.writerow({name: escape_csv_formula(value) for name, value in row.items()})
    with atomic_path(worklist.folder / JSON) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        _write_json(worklist, calibration, columns, file)


def _rows(worklist: Worklist, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for case in worklist.cases():
        yield {name: _value(case, name) for name in columns}


def _value(case: Case, name: str) -> Any:
    return case.decision_text if name == "decision" else getattr(case, name)


def _write_json(worklist: Worklist, calibration: Calibration, columns: tuple[str, ...], file: TextIO) -> None:
    head = {
        "notice": f"{calibration.notice} {BELOW_THRESHOLD_NOTICE}",
        "model": calibration.model,
        "calibrated": calibration.date,
        "prevalence": calibration.probability.prevalence,
        "thresholds": {group: threshold.model_dump() for group, threshold in calibration.thresholds.items()},
        "versions": calibration.versions,
    }
    file.write(json.dumps(head, indent=2)[:-2] + ',\n  "rows": [')  # one row at a time: there may be a million
    file.writelines(
        (",\n    " if number else "\n    ") + json.dumps(row, allow_nan=False)
        for number, row in enumerate(_rows(worklist, columns))
    )
    file.write("\n  ]\n}\n")
