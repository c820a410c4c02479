"""The worklist as `worklist.csv` and `worklist.json`, written whole from what is in the database."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from typing import Any

from anomalib_cxr.screening.calibration.record import Calibration
from anomalib_cxr.screening.case import Case
from anomalib_cxr.utils.files import atomic_path

from .store import Worklist

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # by which a spreadsheet knows what it would compute


def escape_csv_formula(cell: Any) -> Any:
    """Return a cell that a spreadsheet shows and does not compute; a note may begin with an equals sign.

    Example:
        >>> escape_csv_formula("=1+1"), escape_csv_formula("a=b"), escape_csv_formula(-0.5)
        ("'=1+1", 'a=b', -0.5)
    """
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


CSV, JSON = "worklist.csv", "worklist.json"
_COLUMNS = (
    *("path", "study_uid", "sop_uid", "decision", "score", "threshold", "probability", "p_value", "findings"),
    *("subgroup", "source", "heatmap", "screened", "model"),
)
_NAMES = ("patient_id", "patient_name")


def write_tables(worklist: Worklist, calibration: Calibration, *, names: bool = False) -> None:
    """Write both tables into the folder of the worklist.

    Args:
        worklist: The worklist.
        calibration: What its rows go by.
        names: Tell patients' names and IDs.
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


def _write_json(worklist: Worklist, calibration: Calibration, columns: tuple[str, ...], file: Any) -> None:
    head = {
        "notice": calibration.notice,
        "model": calibration.model,
        "calibrated": calibration.date,
        "prevalence": calibration.probability.prevalence,
        "rule_out": {group: each.model_dump() for group, each in calibration.rule_out.items()},
        "versions": calibration.versions,
    }
    file.write(json.dumps(head, indent=2)[:-2] + ',\n  "rows": [')
    for number, row in enumerate(_rows(worklist, columns)):
        file.write((",\n    " if number else "\n    ") + json.dumps(row, allow_nan=False))
    file.write("\n  ]\n}\n")
