"""Files of NIH ChestX-ray14: the table of findings, the folders of images, and the two official lists.

Source: X. Wang et al., "ChestX-ray8: Hospital-scale chest X-ray database and benchmarks", CVPR 2017.
"""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from anomalib_cxr.data.reading.metadata import parse_age
from anomalib_cxr.errors import DatasetError

from .layouts import describe_folder

TABLE = "Data_Entry_2017*.csv"
TRAIN_VAL_LIST, TEST_LIST = "train_val_list.txt", "test_list.txt"
HEALTHY = "No Finding"
FINDINGS = (
    *("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia"),
    *("Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax"),
)
"""Fourteen findings, spelled as in the table."""

OLDEST = 120
"""Greatest plausible age in years; the table has ages such as 414, which count as missing."""

_COLUMNS = {
    "name": ("Image Index",),
    "reading": ("Finding Labels",),
    "patient": ("Patient ID",),
    "age": ("Patient Age",),
    "sex": ("Patient Gender", "Patient Sex"),  # the releases differ
    "view": ("View Position",),
}
"""Headers of each column that is read; their case does not matter."""
_REQUIRED = ["name", "reading", "patient"]  # an X-ray without one of them cannot be assigned to a split
_LAYOUT = (
    f"{TABLE} with images_001/images/ to images_012/images/ beside it, or with a single folder images/, and for the "
    f"official draw {TRAIN_VAL_LIST} and {TEST_LIST}"
)
_HOW_TO_GET = "get the set as datasets/README.md says, or point data.init_args.root at the folder with the table"


def read_entries(root: Path | str) -> pd.DataFrame:
    r"""Read the table of findings, of either release or as copied by Kaggle.

    Args:
        root: Folder of the set.

    Returns:
        A row per X-ray, sorted by name, with the columns

        - `name`: name of the image file.
        - `reading`: findings, separated by `|`, or `No Finding`.
        - `patient`: identity of the patient.
        - `age` in years, `sex` (`M`, `F`), `view` (`PA`, `AP`): missing if the table has no valid value.

    Raises:
        DatasetError: If there is not exactly one table, or if it cannot be read, lacks columns, or has incomplete or
            duplicate rows.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> header = "Image Index,Finding Labels,Patient ID,Patient Age,Patient Gender,View Position"
        >>> with TemporaryDirectory() as folder:
        ...     table = Path(folder, "Data_Entry_2017.csv")
        ...     _ = table.write_text(f"{header}\n00000001_000.png,Mass|Nodule,1,058Y,M,PA\n")
        ...     entries = read_entries(folder)
        >>> entries.to_dict("records")
        [{'name': '00000001_000.png', 'reading': 'Mass|Nodule', 'patient': '1', 'age': 58.0, 'sex': 'M', 'view': 'PA'}]
    """
    table = _find_table(Path(root))
    entries: pd.DataFrame = _read_columns(table).sort_values("name", ignore_index=True)
    entries["age"] = _ages(entries["age"])
    entries["sex"] = entries["sex"].where(entries["sex"].isin(["M", "F"]))
    entries["view"] = entries["view"].where(entries["view"].isin(["PA", "AP"]))
    return entries


def find_images(root: Path | str) -> pd.Series[str]:
    """Find the images in `images_*/images/` and `images/`, without opening one.

    Args:
        root: Folder of the set.

    Returns:
        Path of each image, indexed by file name.

    Raises:
        DatasetError: If there is no image, or if two have the same name.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as name:
        ...     folder = Path(name, "images_001/images")
        ...     folder.mkdir(parents=True)
        ...     (folder / "00000001_000.png").touch()
        ...     list(find_images(name).index)
        ['00000001_000.png']
    """
    root = Path(root)
    folders = [*sorted(root.glob("images_*/images")), root / "images"]
    paths = [path for folder in folders if folder.is_dir() for path in _png_files(folder)]
    if not paths:
        raise DatasetError(describe_folder(root, "image in images_*/images or images"), _LAYOUT, _HOW_TO_GET)
    images = pd.Series(paths, index=[path.rpartition(os.sep)[2] for path in paths], dtype=object)
    duplicates = images[images.index.duplicated(keep=False)]
    if len(duplicates):
        raise DatasetError(
            f"images in {root} of the same name",
            "each image once",
            "remove the copies",
            {"the same name twice": sorted(duplicates)},
        )
    return images


def read_list(root: Path | str, name: str, known: pd.Series[str]) -> pd.Series[bool]:
    r"""Read one of the official lists.

    Args:
        root: Folder of the set.
        name: Name of the list.
        known: Names of the images in the table.

    Returns:
        True for each known image that is in the list, by the index of `known`.

    Raises:
        DatasetError: If the list cannot be read, or names images that are not in the table.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     _ = Path(folder, "test_list.txt").write_text("b.png\n")
        ...     read_list(folder, "test_list.txt", pd.Series(["a.png", "b.png"])).tolist()
        [False, True]
    """
    path = Path(root, name)
    try:
        listed = pd.Index(path.read_text(encoding="utf-8-sig").split())
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(
            f"{path}: cannot be read ({error})",
            f"the official lists, {TRAIN_VAL_LIST} and {TEST_LIST}, beside the table",
            "get them from the set's download page, or set data.init_args.draw to dissertation",
        ) from error
    unknown = listed[~listed.isin(known)]
    if len(unknown):
        raise DatasetError(
            f"{path}, which names {len(unknown)} images that are not in the table",
            "the list and the table of one release",
            "get both anew from the set's download page",
            {"not in the table": list(unknown)},
        )
    return known.isin(listed)


def _find_table(root: Path) -> Path:
    tables = sorted(root.glob(TABLE))
    if not tables:
        raise DatasetError(describe_folder(root, TABLE), _LAYOUT, _HOW_TO_GET)
    if len(tables) > 1:
        raise DatasetError(
            f"{len(tables)} tables in {root}: {', '.join(table.name for table in tables)}",
            "one, since the releases differ in their labels",
            "move all but one elsewhere",
        )
    return tables[0]


def _read_columns(table: Path) -> pd.DataFrame:
    """Read the needed columns as text; lines of the older release end with a comma."""
    try:
        entries = pd.read_csv(table, dtype=str, index_col=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{table}: cannot be read ({error})", "a table with commas between its columns", "download it again"
        ) from error
    entries.columns = entries.columns.str.strip().str.lower()
    headers = {name: " or ".join(known) for name, known in _COLUMNS.items()}
    found = {
        name: [header.lower() for header in known if header.lower() in entries] for name, known in _COLUMNS.items()
    }
    missing = [headers[name] for name, present in found.items() if not present]
    if missing or entries.empty:
        raise DatasetError(
            f"{table} without {', '.join(missing) or 'rows'}",
            f"the columns {', '.join(headers.values())}, and a row per image",
            "use the table as it was published",
        )
    chosen: pd.DataFrame = pd.DataFrame({name: entries[present[0]] for name, present in found.items()})
    _refuse_rows(table, chosen)
    return chosen


def _refuse_rows(table: Path, entries: pd.DataFrame) -> None:
    incomplete = entries[entries[_REQUIRED].isna().any(axis=1)]
    duplicates = entries.name[entries.name.notna() & entries.name.duplicated()]
    offenders = {
        "incomplete": [f"line {row + 2}" for row in incomplete.index],  # counted from 1, after the header
        "the same image twice": list(duplicates),
    }
    if any(offenders.values()):
        raise DatasetError(
            f"rows of {table} that cannot be used",
            "each image once, with its findings and its patient",
            "use the table as it was published",
            offenders,
        )


def _ages(texts: pd.Series[str]) -> pd.Series[float]:
    """Parse ages with a unit, as in `058Y`, or in years, as in `58`; each different text once."""
    ages = {text: parse_age(f"{text}Y" if text.isdecimal() else text) for text in texts.dropna().unique()}
    years = texts.map(ages).astype(float)
    plausible: pd.Series[float] = years.where(years <= OLDEST)
    return plausible


def _png_files(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return [
            entry.path for entry in entries if entry.name.lower().endswith(".png") and not entry.name.startswith(".")
        ]
