"""Tables of the worklist, `worklist.csv` and `worklist.json`, written whole from the database."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from anomalib_cxr.screening.case import BELOW_THRESHOLD_NOTICE, Case
from anomalib_cxr.utils.files import atomic_path
from anomalib_cxr.utils.path_text import path_as_text

from .store import Worklist

if TYPE_CHECKING:  # the page of a worklist is served without OpenVINO
    from anomalib_cxr.screening.calibration.record import Calibration

CSV, JSON, LEFT_OUT = "worklist.csv", "worklist.json", "left_out.csv"
_COLUMNS = (
    *("path", "study_uid", "sop_uid", "decision", "score", "raw_score", "threshold", "guarantee", "probability"),
    *("p_value", "findings", "subgroup", "source", "heatmap", "screened", "model"),
)
_NAMES = ("patient_id", "patient_name")
_FORMULA = re.compile(r"""^(?=[=+\-@\t\r\n])|[;|\t](?=[\s"']*[=+\-@])""")
"""Start of what a spreadsheet would compute: of a cell, and of a part behind another separator that it may have."""


def escape_csv_formula(cell: Any) -> Any:
    """Escape a cell that a spreadsheet would compute; a note may begin with an equals sign.

    Where the decimal sign is a comma, spreadsheets separate cells by semicolons: parts behind one are escaped, too.

    Args:
        cell: Any value.

    Returns:
        The value; with an apostrophe before what begins like a formula.

    Example:
        >>> [escape_csv_formula(cell) for cell in ("=1+1", "a;=1+1", "a=b", -0.5)]
        ["'=1+1", "a;'=1+1", 'a=b', -0.5]
    """
    return _FORMULA.sub(lambda match: f"{match[0]}'", cell) if isinstance(cell, str) else cell


def write_tables(worklist: Worklist, calibration: Calibration, *, names: bool = False) -> None:
    """Write both tables into the folder of the worklist, for their owner only.

    Args:
        worklist: The worklist.
        calibration: Calibration of the model that scored it.
        names: Include patients' names and IDs.
    """
    head = {
        "notice": f"{calibration.notice} {BELOW_THRESHOLD_NOTICE}",
        "model": calibration.model,
        "calibrated": calibration.date,
        "prevalence": calibration.probability.prevalence,
        "thresholds": {group: threshold.model_dump() for group, threshold in calibration.thresholds.items()},
        "versions": calibration.versions,
    }
    _write(worklist, head, (*_COLUMNS, *(_NAMES if names else ())))


def rewrite_tables(folder: Path) -> None:
    """Write both tables anew from the database, with the columns and the head that they have; none where there is none.

    Args:
        folder: Folder of the worklist.
    """
    try:
        head = json.loads((folder / JSON).read_text(encoding="utf-8"))
        with (folder / CSV).open(newline="", encoding="utf-8") as file:
            columns = next(csv.reader(file))
    except FileNotFoundError:  # written by the end of a screening
        return
    del head["rows"]
    _write(Worklist(folder), head, tuple(columns))


def _write(worklist: Worklist, head: Mapping[str, Any], columns: tuple[str, ...]) -> None:
    with (
        atomic_path(worklist.folder / CSV, private=True) as unfinished,
        unfinished.open("w", newline="", encoding="utf-8") as file,
    ):
        table = csv.DictWriter(file, columns)
        table.writeheader()
        for row in _rows(worklist, columns):
            table.writerow({name: escape_csv_formula(value) for name, value in row.items()})
    with (
        atomic_path(worklist.folder / JSON, private=True) as unfinished,
        unfinished.open("w", encoding="utf-8") as file,
    ):
        _write_json(worklist, head, columns, file)


def write_left_out(folder: Path, left_out: Mapping[str, Sequence[Path]]) -> None:
    """Write the table of the files and folders that were not screened, `left_out.csv`.

    Args:
        folder: Folder of the worklist.
        left_out: Files and folders by the reason.
    """
    with (
        atomic_path(folder / LEFT_OUT, private=True) as unfinished,
        unfinished.open("w", newline="", encoding="utf-8") as file,
    ):
        table = csv.writer(file)
        table.writerow(["path", "reason"])
        table.writerows(
            [escape_csv_formula(path_as_text(path)), reason] for reason, paths in left_out.items() for path in paths
        )


def _rows(worklist: Worklist, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for case in worklist.cases():
        yield {name: _value(case, name) for name in columns}


def _value(case: Case, name: str) -> Any:
    return case.decision_text if name == "decision" else getattr(case, name)


def _write_json(worklist: Worklist, head: Mapping[str, Any], columns: tuple[str, ...], file: TextIO) -> None:
    file.write(json.dumps(head, indent=2)[:-2] + ',\n  "rows": [')  # one row at a time: there may be a million
    file.writelines(
        (",\n    " if number else "\n    ") + json.dumps(row, allow_nan=False)
        for number, row in enumerate(_rows(worklist, columns))
    )
    file.write("\n  ]\n}\n")
