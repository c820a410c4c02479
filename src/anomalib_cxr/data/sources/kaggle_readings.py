"""Clinical readings of the Montgomery and Shenzhen sets as they are on Kaggle: one table a set."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from anomalib_cxr.data.reading.metadata import ClinicalReading, parse_clinical_reading
from anomalib_cxr.errors import DatasetError

TABLES = ("montgomery_metadata.csv", "shenzhen_metadata.csv")
COLUMNS = ["study_id", "sex", "age", "findings"]


def read_kaggle_readings(root: Path | str) -> dict[str, ClinicalReading]:
    r"""Read the tables `montgomery_metadata.csv` and `shenzhen_metadata.csv` in a folder or one level below.

    Args:
        root: Folder with the data.

    Returns:
        Readings by the name of the X-ray without suffix; empty if there is no table.

    Raises:
        DatasetError: If a table cannot be read or lacks columns.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     table = Path(folder, "shenzhen_metadata.csv")
        ...     _ = table.write_text("study_id,sex,age,findings\nCHNCXR_0001_0.png,Male,45,normal\n")
        ...     read_kaggle_readings(folder)
        {'CHNCXR_0001_0': ClinicalReading(sex='M', age=45.0, findings='normal')}
    """
    paths = [path for name in TABLES for pattern in (name, f"*/{name}") for path in sorted(Path(root).glob(pattern))]
    rows = pd.concat([pd.DataFrame(columns=COLUMNS), *map(_read, paths)])
    return {
        Path(image).stem: parse_clinical_reading(f"{sex} {_with_unit(age)}\n{findings}")
        for image, sex, age, findings in rows[COLUMNS].itertuples(index=False)
    }


def _with_unit(age: str) -> str:
    return f"{age}y" if age.isdecimal() else age


def _read(path: Path) -> pd.DataFrame:
    expected = f"a CSV file with the columns {', '.join(COLUMNS)}"
    try:
        table: pd.DataFrame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be read ({error})", expected, "download it again, or remove it") from error
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise DatasetError(f"{path} without {', '.join(missing)}", expected, "rename its columns, or remove it")
    return table
