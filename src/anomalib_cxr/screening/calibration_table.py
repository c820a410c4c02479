"""Labeled X-rays of a calibration, from a table."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from anomalib_cxr.data.reading.verification import verify_radiographs
from anomalib_cxr.data.sources.folder_table import read_table
from anomalib_cxr.data.sources.identical_files import find_copies
from anomalib_cxr.errors import DatasetError

from .calibration_data import LabeledImages


def labeled_by_table(table: Path, sixteen_bit_white: int | None = None) -> LabeledImages:
    """Return the images of a table.

    Args:
        table: CSV file of :func:`anomalib_cxr.data.sources.folder_table.read_table`, its paths relative to its folder:
            `image`, `label`, and where known `patient`, `hospital`, `view`, `sex` and `age`. None of the images may
            have been used for training the model.
        sixteen_bit_white: White of 16-bit images, as the model learned them.

    Returns:
        The labeled images.

    Raises:
        DatasetError: If the table cannot be read, has a value that cannot be used, names an image twice by whatever
            path, or lacks a patient, or if a file is no X-ray.
    """
    rows = read_table(table, table.parent)
    paths = [Path(path) for path in rows.image_path]
    verify_radiographs(paths, sixteen_bit_white)
    _refuse_copies(table, rows)
    _refuse_anonymous(table, rows)
    images = pd.DataFrame(
        {
            "path": paths,
            "is_sick": rows.label_index.astype(bool),
            "hospital": rows["source"].replace("unknown", "") if "source" in rows else "",
            "view": rows["view"].fillna("") if "view" in rows else "",
            "sex": rows["sex"].fillna("") if "sex" in rows else "",
            "age": rows["age"] if "age" in rows else float("nan"),
            **({"patient": _patients(table, rows)} if "patient" in rows else {}),
        }
    )
    return LabeledImages(images, sixteen_bit_white)


def _refuse_copies(table: Path, rows: pd.DataFrame) -> None:
    """Refuse images that are in the table twice: each would count as independent in the guarantee."""
    copies = find_copies(rows)
    if copies:
        raise DatasetError(
            f"{table}: {len(copies)} of {len(rows)} images that are in it more than once",
            "files of different content",
            "keep one row for each image",
            {"the same image twice": [" = ".join(same) for same in copies]},
        )


def _refuse_anonymous(table: Path, rows: pd.DataFrame) -> None:
    if "patient" not in rows:
        return
    anonymous = list(rows.image_path[rows.patient == ""])
    if anonymous:
        raise DatasetError(
            f"{table}: {len(anonymous)} of {len(rows)} images without a patient, in a table with patients",
            "the patient of each image, or no column `patient`: then images are counted",
            "complete the column, or leave these images out",
            {"no patient": anonymous},
        )


def _patients(table: Path, rows: pd.DataFrame) -> pd.Series[str]:
    """Return identifiers that are unique over the hospitals, each of which gives IDs of its own."""
    ids: pd.Series[str] = rows.patient
    if "source" not in rows or rows["source"].nunique() < 2:  # noqa: PLR2004  # several
        return ids
    is_known = rows["source"] != "unknown"  # as of the table
    ambiguous = list(rows.image_path[ids.isin(ids[is_known]) & ~is_known])
    if ambiguous:
        raise DatasetError(
            f"{table}: {len(ambiguous)} of {len(rows)} images without a hospital, whose patients' IDs are those of "
            "patients with one",
            "the hospital of each image of a patient: it may be the same person or another one",
            "complete the column `hospital`",
            {"no hospital": ambiguous},
        )
    unique: pd.Series[str] = rows["source"] + "/" + ids
    return unique
