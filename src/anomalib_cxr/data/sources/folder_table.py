"""Table of one's own X-rays: a CSV file with a row for each."""

from __future__ import annotations

import logging
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd

from anomalib_cxr.data.reading.metadata import parse_age
from anomalib_cxr.data.reading.subject import FRONTAL_VIEWS
from anomalib_cxr.errors import DatasetError

from .nih_files import OLDEST
from .splits import SPLITS

logger = logging.getLogger(__name__)

LABELS = {"normal": False, "0": False, "healthy": False, "sick": True, "abnormal": True, "1": True}
"""True for the labels of sick X-rays; case does not matter."""
REQUIRED = ("image", "label")
OPTIONAL = ("patient", "hospital", "view", "sex", "age", "split", "mask", "lung_mask")
_SEXES = {
    "": None,
    "o": None,
    "other": None,
    "u": None,
    "unknown": None,
    "m": "M",
    "male": "M",
    "f": "F",
    "female": "F",
}
_UNKNOWN_VIEWS = {"", "UNKNOWN"}
_SEPARATORS = ",;\t"  # spreadsheets write semicolons where the comma is the decimal point
_INVALID = object()


def read_table(path: Path | str, root: Path) -> pd.DataFrame:
    r"""Read a table of X-rays, and check all of its values.

    Args:
        path: A CSV file with the columns `image` (path relative to `root`) and `label` (`normal`, `healthy`, `0`;
            `sick`, `abnormal`, `1`), and where they are known `patient`, `hospital`, `view` (`PA`, `AP`), `sex` (`M`,
            `F`), `age` (years), `split` (`train`, `val`, `test`, `unused`; empty to be split at random), `mask` (of the
            anomaly), `lung_mask`.
        root: Folder that the paths are relative to.

    Returns:
        A row for each X-ray, sorted by path, with the columns `image_path` and `label_index`, and of
        :class:`anomalib_cxr.data.sources.samples.SampleRow`, `patient` and `view` those that the table has.

    Raises:
        DatasetError: If the table cannot be read, or has values that cannot be used; names all of them.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as name:
        ...     Path(name, "a.dcm").touch()
        ...     _ = Path(name, "own.csv").write_text("image;label;age\na.dcm;healthy;34\n")
        ...     read_table(Path(name, "own.csv"), Path(name))[["label_index", "age"]].to_dict("records")
        [{'label_index': 0, 'age': 34.0}]
    """
    path = Path(path)
    rows = _read(path)
    problems: dict[str, list[str]] = defaultdict(list)
    table = pd.DataFrame({"image_path": _files(rows, "image", root, problems)})
    labels = rows.label.str.lower().map(LABELS)
    _collect(problems, rows, labels.isna(), "label")
    table["label_index"] = labels.fillna(value=False).astype(int)
    for column, values in _values(rows, root, problems).items():
        table[column] = values
    _collect_contradictions(problems, rows, table)
    if problems:
        raise DatasetError(
            f"{path}: {len(set().union(*problems.values()))} of {len(rows)} X-rays with values that cannot be used",
            f"each existing file once; label {', '.join(LABELS)}; view {', '.join(sorted(FRONTAL_VIEWS))}; sex M, F; "
            f"age in years; split {', '.join(SPLITS)}; empty where one is not known, but for image and label",
            "correct the table",
            problems,
        )
    in_order: pd.DataFrame = table.sort_values("image_path", ignore_index=True)
    return in_order


def _read(path: Path) -> pd.DataFrame:
    """Read all columns as text, without the spaces around it."""
    expected = f"a CSV file with the columns {', '.join(REQUIRED)}, and perhaps {', '.join(OPTIONAL)}"
    try:
        with path.open(encoding="utf-8-sig") as file:
            header = file.readline()
        separator = max(_SEPARATORS, key=header.count)
        rows: pd.DataFrame = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # errors of encoding and of CSV are ValueErrors
        raise DatasetError(
            f"{path}, which cannot be read ({error})",
            expected,
            "correct the path (data.init_args.table or --table), relative to the working directory, or write it anew",
        ) from error
    rows = rows.rename(columns=lambda name: str(name).strip().lower()).apply(lambda column: column.str.strip())
    missing = [column for column in REQUIRED if column not in rows]
    if missing or rows.empty or rows.columns.duplicated().any():
        columns = ", ".join(map(str, rows.columns))
        raise DatasetError(f"{path} with {len(rows)} rows and the columns {columns}", expected, "complete it")
    others = [str(column) for column in rows if column not in {*REQUIRED, *OPTIONAL}]
    if others:
        logger.info("%s: columns that are not used: %s", path, ", ".join(others))
    return rows


def _values(rows: pd.DataFrame, root: Path, problems: dict[str, list[str]]) -> dict[str, pd.Series]:
    """Return the optional columns that the table has, as a samples table names them."""
    values: dict[str, pd.Series] = {}
    for column in rows:
        if column == "patient":
            values["patient"] = rows.patient
        elif column == "hospital":
            values["source"] = rows.hospital.replace("", "unknown")
        elif column == "split":
            values["split"] = rows["split"]
            _collect(problems, rows, ~rows["split"].isin([*SPLITS, ""]), "split")
        elif column == "mask":
            values["mask_path"] = _files(rows, "mask", root, problems)
        elif column == "lung_mask":
            values["roi_mask_paths"] = _files(rows, "lung_mask", root, problems).map(
                lambda file: (file,) if file else ()
            )
        elif column in _PARSERS:
            parsed = rows[column].map({text: _PARSERS[column](text) for text in rows[column].unique()})
            invalid = parsed.map(lambda value: value is _INVALID)
            _collect(problems, rows, invalid, column)
            values[column] = parsed.mask(invalid)
    if "age" in values:
        values["age"] = values["age"].astype(float)
    return values


def _view(text: str) -> object:
    view = text.upper()[:2]  # "AP SUPINE"
    return "" if text.upper() in _UNKNOWN_VIEWS else view if view in FRONTAL_VIEWS else _INVALID


def _sex(text: str) -> object:
    return _SEXES.get(text.lower(), _INVALID)


def _age(text: str) -> object:
    if not text:
        return np.nan
    try:
        age: float | None = float(text.replace(",", "."))
    except ValueError:
        age = parse_age(text)
    return age if age is not None and 0 <= age <= OLDEST else _INVALID


_PARSERS = {"view": _view, "sex": _sex, "age": _age}


def _files(rows: pd.DataFrame, column: str, root: Path, problems: dict[str, list[str]]) -> pd.Series:
    """Return the paths of a column, empty where it is empty."""
    texts = rows[column]
    paths = texts.map(lambda text: str(root / text) if text else "")
    missing = paths.map(lambda path: not (path == "" and column != "image") and not Path(path).is_file())
    reason = "no such file" if column == "image" else f"{column}: no such file"
    if missing.any():
        problems[reason] += [text or "(empty)" for text in texts[missing]]
    return paths


def _collect(problems: dict[str, list[str]], rows: pd.DataFrame, invalid: pd.Series, column: str) -> None:
    for value, images in rows.image[invalid].groupby(rows[column]):
        problems[f"{column} {value!r}"] += list(images)


def _collect_contradictions(problems: dict[str, list[str]], rows: pd.DataFrame, table: pd.DataFrame) -> None:
    """Add X-rays that are named twice, and those whose values do not go together."""
    repeated = table.image_path.duplicated(keep=False)
    two_labels = table.groupby("image_path").label_index.transform("nunique") > 1
    sick = table.label_index == 1
    contradictions = {
        "with two labels": two_labels,
        "named twice": repeated & ~two_labels,
        "sick, and would train": sick & (table["split"] == "train" if "split" in table else False),
        "healthy, with a mask of an anomaly": ~sick & (table.mask_path != "" if "mask_path" in table else False),
    }
    for reason, contradicted in contradictions.items():
        if contradicted.any():
            problems[reason] += list(dict.fromkeys(rows.image[contradicted]))
