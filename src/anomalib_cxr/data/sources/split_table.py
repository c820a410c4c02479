"""Splits from a user's table, with a row for each X-ray and a column for each seed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from anomalib_cxr.errors import DatasetError

from .layouts import SOURCES
from .splits import SPLITS, file_names

logger = logging.getLogger(__name__)

IMAGE = "image"
"""Name of the first column of a split table."""
_NEXT_STEP = "correct the table, or choose another seed (data.init_args.seed; a benchmark's `splits`)"
_REQUIRED = {"train": {"normal": 0}, "val": {"normal": 0, "sick": 1}, "test": {"normal": 0, "sick": 1}}


def read_split_table(path: Path | str, seed: int) -> pd.Series[str]:
    r"""Read the split of each image.

    Args:
        path: A CSV file. Its first column is `image`, the name of a file; the name of each further one is a seed, and
            its values are `train`, `val`, `test` or `unused`.
        seed: Column to read.

    Returns:
        Splits, indexed by the name of the image.

    Raises:
        DatasetError: If there is no such file or column, or if it has duplicate images or unknown splits.

    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp(), "splits.csv")
        >>> _ = path.write_text("image,0,1\nPHANTOM_0000_0.png,train,test\nPHANTOM_0001_1.png,val,unused\n")
        >>> read_split_table(path, seed=1).to_dict()
        {'PHANTOM_0000_0.png': 'test', 'PHANTOM_0001_1.png': 'unused'}
    """
    path = Path(path)
    table = _read(path)
    if str(seed) not in table:
        raise DatasetError(
            f"{path} with the columns {', '.join(table.columns)}", f"a column {seed} (the seed)", _NEXT_STEP
        )
    splits: pd.Series[str] = table.set_index(IMAGE)[str(seed)].str.strip()
    unknown = splits[~splits.isin(SPLITS)]
    offenders = {
        "twice in the table": list(splits.index[splits.index.duplicated()]),
        **{f"goes to {value!r}": list(rows.index) for value, rows in unknown.groupby(unknown)},
    }
    _refuse(offenders, f"column {seed} of {path}", f"each image once, and {', '.join(SPLITS)} only")
    return splits


def hold_out_by_table(samples: pd.DataFrame, path: Path | str, seed: int) -> pd.DataFrame:
    """Hold out all X-rays but the healthy training ones of a table, so that what is learned leaks into no test of it.

    Args:
        samples: A table from :func:`anomalib_cxr.data.sources.samples.make_samples`.
        path: A CSV file, see :func:`read_split_table`. It may name further images.
        seed: Column of the table.

    Returns:
        The X-rays of the table, with the column `split`: `train` for healthy training images, `test` for those that
        validate or test; others are left out.

    Raises:
        DatasetError: If the table cannot be used, or there is no X-ray to train on or none to test.
    """
    splits = read_split_table(path, seed)
    named = samples.image_path.map(lambda image: splits.get(Path(image).name, "unused"))
    trains = (named == "train") & (samples.label_index == 0)
    tests = named.isin(["val", "test"])
    if not trains.any() or not tests.any():
        raise DatasetError(
            f"{trains.sum()} healthy X-rays to train on and {tests.sum()} to test, of {len(samples)} with a lung mask, "
            f"by column {seed} of {path}",
            "at least one of each",
            _NEXT_STEP,
        )
    split = samples.assign(split=trains.map({True: "train", False: "test"}))
    used: pd.DataFrame = split[trains | tests].sort_values("image_path", ignore_index=True)
    return used


def _read(path: Path) -> pd.DataFrame:
    """Read all columns as text; spreadsheets add a byte order mark."""
    expected = f"a CSV file with the columns {IMAGE}, 0, 1, ..."
    if not path.is_file():
        raise DatasetError(
            f"no file {path} (working directory {Path.cwd()})",
            expected,
            "correct data.init_args.split_table; a relative path starts where the command is started, as that of root",
        )
    try:
        table: pd.DataFrame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, OSError) as error:  # errors of encoding and of CSV are ValueErrors
        raise DatasetError(f"{path}, which cannot be read ({error})", expected, "write it anew") from error
    if table.columns[0] != IMAGE:
        raise DatasetError(f"{path} whose first column is {table.columns[0]!r}", expected, "rename the columns")
    return table


def _refuse(offenders: dict[str, list[str]], place: str, expected: str) -> None:
    """Refuse all offending images at once."""
    if any(offenders.values()):
        raise DatasetError(f"{sum(map(len, offenders.values()))} images in {place}", expected, _NEXT_STEP, offenders)


def assign_by_table(
    samples: pd.DataFrame, path: Path | str, seed: int, *, require_masks: bool, sources: Sequence[str] | None = None
) -> pd.DataFrame:
    """Assign each X-ray to its split in a table.

    X-rays that are not in the table stay `unused`; a warning gives their number.

    Args:
        samples: A table from :func:`anomalib_cxr.data.sources.samples.make_samples`.
        path: The table; see :func:`read_split_table`.
        seed: Its column.
        require_masks: True if training needs lung masks.
        sources: Hospitals whose images are used; rows of other hospitals are ignored. None for all.

    Returns:
        A copy with the column `split` filled, sorted by file name.

    Raises:
        DatasetError: If the table cannot be used; if an image of the table is missing; if a sick image would train, or
            one without a lung mask where masks are required. Names all of them.
    """
    names = file_names(samples.image_path)
    splits = read_split_table(path, seed)
    if sources is not None:
        hospitals = splits.index.map(lambda name: SOURCES.get(name.partition("_")[0]))
        splits = splits[hospitals.isin(sources)]
    assigned: pd.DataFrame = samples.assign(split=names.map(splits).fillna("unused"))
    training = assigned.split == "train"
    unmasked = training & (assigned.roi_mask_paths.map(len) == 0) & require_masks
    offenders = {
        "not among the images": sorted(set(splits.index) - set(names)),
        "sick, and would train": list(names[training & (assigned.label_index == 1)]),
        "without a lung mask, and would train": list(names[unmasked]),
    }
    _refuse(offenders, f"column {seed} of {path}", "existing images, of which normal ones with a lung mask train")
    unlisted = names[~names.isin(splits.index)]
    if len(unlisted):
        logger.warning("Unused, since they are not in %s: %d images, such as %s", path, len(unlisted), unlisted.iloc[0])
    in_order: pd.DataFrame = assigned.sort_values("image_path", key=file_names, ignore_index=True)
    return in_order


def check_filled(samples: pd.DataFrame, path: Path | str, seed: int) -> None:
    """Refuse splits that are too empty to train, validate and test.

    Args:
        samples: The table of :func:`assign_by_table`, without unusable files.
        path: The table, for the message.
        seed: Its column, for the message.

    Raises:
        DatasetError: If no normal image trains, or validation or test has no normal or no sick one.
    """
    empty = [
        f"no {label} images in {split}"
        for split, labels in _REQUIRED.items()
        for label, index in labels.items()
        if not ((samples.split == split) & (samples.label_index == index)).any()
    ]
    if empty:
        raise DatasetError(
            f"column {seed} of {path}, by which there are {'; '.join(empty)}",
            "normal images to train, and normal and sick ones to validate and to test",
            _NEXT_STEP,
        )
