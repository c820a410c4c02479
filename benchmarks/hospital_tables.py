"""Write the tables of X-rays of `configs/benchmark/own_hospital.yaml` and `carried.yaml`.

    python benchmarks/hospital_tables.py --output datasets/hospitals --home datasets/montgomery_shenzhen \
        --nih datasets/nih --rsna datasets/rsna_normal --jsrt datasets/jsrt

Every X-ray is reduced to 224 x 224 pixels, so that its size does not tell where it comes from. Writes, in `--output`:

- `nih.csv`: "No Finding" against "Pneumonia" of NIH ChestX-ray14, to be split by patient;
- `nih_rsna.csv`: the same, and normal X-rays of the RSNA pneumonia challenge, of the same hospital, that train only;
- `jsrt.csv`: normal X-rays against nodules of JSRT, to be split;
- `nih_carried.csv`, `jsrt_carried.csv`: trained on Montgomery and Shenzhen, tested on all of NIH, or JSRT.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jsonargparse import auto_cli
from PIL import Image

from anomalib_cxr.data.reading.radiograph import read_radiograph
from anomalib_cxr.data.sources.nih_files import HEALTHY, find_images, read_entries
from anomalib_cxr.data.sources.samples import make_samples
from anomalib_cxr.functional import antialiased_resize

logger = logging.getLogger(__name__)

SIDE = 224
FINDING = "Pneumonia"
UPSIDE_DOWN = ["00003490_011.png"]
"""X-rays of NIH that are left out: the input check refuses them, and no lung is found."""
JSRT_LABELS = {"normal": "normal", "nodule": "sick"}
VALIDATION_SHARE, VALIDATION_SICK = 0.1, 35
"""Share of the healthy X-rays, and number of the sick ones, of the home hospitals that validate models carried over."""
_COLUMNS = ["image", "label", "patient", "hospital", "view", "sex", "age", "split"]


def list_nih(root: Path) -> pd.DataFrame:
    """List the X-rays with the finding, and those without any.

    Args:
        root: Folder of NIH ChestX-ray14, or of a part of it.

    Returns:
        A row per X-ray: `path`, `label`, `patient`, `hospital`, `view`, `sex` and `age`.
    """
    entries = read_entries(root)
    entries["path"] = entries["name"].map(find_images(root))
    is_sick = entries.reading.str.split("|").map(lambda findings: FINDING in findings)
    usable = entries.path.notna() & ~entries["name"].isin(UPSIDE_DOWN)
    chosen = entries[usable & (is_sick | (entries.reading == HEALTHY))]
    label = np.where(is_sick[chosen.index], "sick", "normal")
    listed: pd.DataFrame = chosen.drop(columns=["name", "reading"]).assign(label=label, hospital="nih")
    return listed


def list_folders(root: Path, labels: Mapping[str, str], hospital: str) -> pd.DataFrame:
    """List the PNG files of folders, each of a patient of its own.

    Args:
        root: Folder of the folders.
        labels: Label by folder.
        hospital: Name of the hospital.

    Returns:
        A row per X-ray: `path`, `label`, `patient` and `hospital`.
    """
    rows = [
        {"path": str(path), "label": label, "patient": path.stem, "hospital": hospital}
        for folder, label in labels.items()
        for path in sorted((root / folder).glob("*.png"))
    ]
    return pd.DataFrame(rows)


def list_home(root: Path) -> pd.DataFrame:
    """List Montgomery and Shenzhen: healthy X-rays train, a share of them and some sick ones validate.

    Args:
        root: Folder of Montgomery and Shenzhen.

    Returns:
        A row per X-ray: `path`, `label`, `patient`, `hospital` and `split`.
    """
    samples = make_samples(root)
    is_sick = samples.label_index == 1
    order = np.random.default_rng(0).permutation(len(samples))
    rank = pd.Series(order).groupby(is_sick).rank(method="first")
    validates = np.where(is_sick, rank <= VALIDATION_SICK, rank <= VALIDATION_SHARE * (~is_sick).sum())
    split = np.where(validates, "val", np.where(is_sick, "unused", "train"))
    names = samples.image_path.map(lambda path: Path(path).stem)
    listed: pd.DataFrame = pd.DataFrame(
        {"path": samples.image_path, "label": np.where(is_sick, "sick", "normal"), "patient": names}
    ).assign(hospital=samples.source, split=split)
    return listed


def write_reduced(listed: pd.DataFrame, output: Path) -> pd.DataFrame:
    """Write reduced copies of X-rays.

    Args:
        listed: A row per X-ray, with `path` and `hospital`.
        output: Folder; the copies are in a folder of each hospital.

    Returns:
        The rows, with `image`, the path of the copy relative to the folder.
    """
    names = []
    for path, hospital, label in zip(listed.path, listed.hospital, listed.label, strict=True):
        name = f"{hospital}/{label}/{Path(path).name}"
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        gray = antialiased_resize(read_radiograph(path)[None], (SIDE, SIDE))[0, 0]
        Image.fromarray((gray.clamp(0, 1) * 255).round().to(torch.uint8).numpy()).save(output / name)
        names.append(name)
    written: pd.DataFrame = listed.assign(image=names)
    return written


def main(output: Path, nih: Path, rsna: Path, jsrt: Path, home: Path) -> None:
    """Write all tables and the reduced X-rays.

    Args:
        output: Folder for them.
        nih: Folder of NIH ChestX-ray14, or of a part of it.
        rsna: Folder with normal X-rays of the RSNA challenge, PNG.
        jsrt: Folder of JSRT with the folders `normal` and `nodule`, PNG.
        home: Folder of Montgomery and Shenzhen.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    listed = {
        "nih": list_nih(nih),
        "rsna": list_folders(rsna, {".": "normal"}, "rsna").assign(split="train"),
        "jsrt": list_folders(jsrt, JSRT_LABELS, "jsrt"),
        "home": list_home(home),
    }
    reduced = {name: write_reduced(table, output) for name, table in listed.items()}
    tables = {
        "nih": [reduced["nih"]],
        "nih_rsna": [reduced["nih"], reduced["rsna"]],
        "jsrt": [reduced["jsrt"]],
        "nih_carried": [reduced["home"], reduced["nih"].assign(split="test")],
        "jsrt_carried": [reduced["home"], reduced["jsrt"].assign(split="test")],
    }
    for name, parts in tables.items():
        table = pd.concat(parts).reindex(columns=_COLUMNS)
        table.to_csv(output / f"{name}.csv", index=False)
        logger.info("%s: %s", name, table.label.value_counts().to_dict())


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
