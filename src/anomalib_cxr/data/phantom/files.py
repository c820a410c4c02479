"""Writer of phantom sets in the layout of the merged Montgomery and Shenzhen sets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track

from anomalib_cxr._version import __version__
from anomalib_cxr.errors import DatasetError
from anomalib_cxr.utils.files import atomic_folder
from anomalib_cxr.utils.settings import NonNegativeInt, Range, check_settings

from .drawing import DEFAULT_NOISE, NoiseModel, Phantom, PhantomSize, draw_phantom
from .findings import FINDINGS, FindingName

RECORD = "phantoms.json"  # written last: a folder with it is complete
DICOM = "DICOM"  # copy of the images by `write_phantom_dicom`, not part of the record
IMAGES, LUNGS, LESIONS, READINGS = "CXR_png", "masks", "lesions", "ClinicalReadings"
_Prefix = Annotated[str, Range("letters, digits and hyphens", lambda prefix: re.fullmatch("[A-Za-z0-9-]+", prefix))]


@dataclass(frozen=True)
class _PhantomSet:
    """Settings of a phantom set, see :func:`write_phantoms`; the fields are the record on disk."""

    n_normal: NonNegativeInt
    n_sick: NonNegativeInt
    size: PhantomSize = 256
    seed: NonNegativeInt = 0
    prefix: _Prefix = "PHANTOM"
    bits: Literal[8, 16] = 8
    noise: NoiseModel = DEFAULT_NOISE
    version: str = __version__

    def __post_init__(self) -> None:
        check_settings(_PhantomSet, vars(self), "the settings of the phantoms")

    def entries(self) -> Iterator[_Entry]:
        """Yield the radiographs, the healthy ones first."""
        names = list(FINDINGS)
        for index in range(self.n_normal + self.n_sick):
            sick = index - self.n_normal
            yield _Entry(self, index, names[sick % len(names)] if sick >= 0 else None)

    def record(self) -> str:
        """Return the text of the record on disk."""
        return json.dumps(asdict(self), indent=2) + "\n"


@dataclass(frozen=True)
class _Entry:
    """Radiograph of a phantom set, and the paths of its files."""

    phantom_set: _PhantomSet
    index: int
    finding: FindingName | None

    @property
    def name(self) -> str:
        """Name of the files; it ends in the label: 0 normal, 1 sick."""
        return f"{self.phantom_set.prefix}_{self.index:04d}_{int(self.finding is not None)}"

    def files(self) -> dict[str, str]:
        """Return the relative path of each file, by its folder."""
        # In the merged set, the names of Shenzhen's masks have a suffix.
        suffix = "_mask" if self.phantom_set.prefix.startswith("CHNCXR") else ""
        paths = {
            IMAGES: f"{IMAGES}/{self.name}.png",
            LUNGS: f"{LUNGS}/{self.name}{suffix}.png",
            READINGS: f"{READINGS}/{self.name}.txt",
        }
        return paths if self.finding is None else {**paths, LESIONS: f"{LESIONS}/{self.name}.png"}

    def draw(self) -> Phantom:
        """Draw the radiograph with a generator of its own, so that it does not depend on the others."""
        rng = np.random.default_rng(np.random.SeedSequence((self.phantom_set.seed, self.index)))
        return draw_phantom(rng, self.phantom_set.size, self.finding, self.phantom_set.noise)


def write_phantoms(
    root: Path | str,
    *,
    n_normal: int = 300,
    n_sick: int = 100,
    size: int = 256,
    seed: int = 0,
    prefix: str = "PHANTOM",
    bits: Literal[8, 16] = 8,
    noise: NoiseModel = DEFAULT_NOISE,
) -> Path:
    """Draw a set of phantoms into a new folder.

    The folder is written atomically. A folder with the same set is left unchanged. Several processes may call this with
    the same folder at once.

    Args:
        root: Folder of the set, created if it does not exist.
        n_normal: Healthy radiographs, named `{prefix}_{index}_0`.
        n_sick: Radiographs with a finding, assigned in turn, named `{prefix}_{index}_1`.
        size: Height and width in pixels, 32 to 2048.
        seed: Seed of the set.
        prefix: First part of the names; with "CHNCXR" lung masks are named as in the Shenzhen set.
        bits: Bit depth of the PNG files, 8 or 16.
        noise: Noise of the detector.

    Returns:
        The folder, with `CXR_png/`, `masks/` (lungs), `lesions/` (of the sick), `ClinicalReadings/`, `phantoms.json`.

    Raises:
        SettingError: A setting is outside its range.
        DatasetError: The folder contains another set or other files, or cannot be written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     root = write_phantoms(Path(folder) / "phantoms", n_normal=1, n_sick=1, size=64)
        ...     sorted(path.name for path in (root / "CXR_png").iterdir())
        ['PHANTOM_0000_0.png', 'PHANTOM_0001_1.png']
    """
    wanted, root = _PhantomSet(n_normal, n_sick, size, seed, prefix, bits, noise), Path(root)
    if not _is_complete(root, wanted):
        with lock_set(root):
            if not _is_complete(root, wanted):  # another process may have drawn it meanwhile
                _draw(root, wanted)
    return root


@contextmanager
def lock_set(root: Path) -> Iterator[None]:
    """Let one process at a time write a set, and convert an `OSError` of the block.

    Args:
        root: Folder of the set; the lock is a hidden file beside it.

    Raises:
        DatasetError: The block raises an `OSError`.
    """
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(root.with_name(f".{root.name}.lock")):
            yield
    except OSError as error:
        raise DatasetError(
            f"{root}: cannot be written ({error})",
            "a place with enough free space and the right to write",
            "choose another folder, or free space, and start again",
        ) from error


def _is_complete(root: Path, wanted: _PhantomSet) -> bool:
    """Return True for a complete set, False for a missing or empty folder; refuse anything else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    record = root / RECORD
    if not record.is_file():
        raise DatasetError(f"{root}: something else than a set of phantoms", "a new folder", "choose another folder")
    _refuse_other_settings(record, wanted)
    _refuse_other_files(root, wanted)
    return True


def _refuse_other_settings(record: Path, wanted: _PhantomSet) -> None:
    try:
        existing = dict(json.loads(record.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise DatasetError(f"{record}: not a record of phantoms", "the record of a set", "delete the folder") from error
    differing = [
        f"{name} = {existing.get(name)!r}, not {value!r}"
        for name, value in json.loads(wanted.record()).items()
        if existing.get(name) != value
    ]
    if differing:
        raise DatasetError(
            f"{record.parent}: phantoms with {'; '.join(differing)}",
            "the settings that are asked for",
            "delete the folder, or choose another one for the new settings",
        )


def _refuse_other_files(root: Path, wanted: _PhantomSet) -> None:
    """Refuse foreign and missing files; hidden files, which belong to the system, and the DICOM copy are ignored."""
    expected = {RECORD} | {path for entry in wanted.entries() for path in entry.files().values()}
    paths = {path.relative_to(root) for path in root.rglob("*") if not path.is_dir()}
    paths = {path for path in paths if path.parts[0] != DICOM and not any(part.startswith(".") for part in path.parts)}
    existing = {path.as_posix() for path in paths}
    offenders = {"foreign": sorted(existing - expected), "missing": sorted(expected - existing)}
    if any(offenders.values()):
        raise DatasetError(
            f"{root}: not the files of its record",
            f"the {len(expected)} files of the set and no others",
            "move foreign files elsewhere; if some are missing, delete the folder, which is then drawn anew",
            offenders,
        )


def _draw(root: Path, wanted: _PhantomSet) -> None:
    with atomic_folder(root) as partial:
        for folder in (IMAGES, LUNGS, LESIONS, READINGS):
            (partial / folder).mkdir(parents=True)
        for entry in track(list(wanted.entries()), description="Drawing phantoms", transient=True):
            _write(partial, entry)
        (partial / RECORD).write_text(wanted.record(), encoding="utf-8")


def _write(root: Path, entry: _Entry) -> None:
    phantom, files = entry.draw(), entry.files()
    Image.fromarray(_levels(phantom.image, entry.phantom_set.bits)).save(root / files[IMAGES])
    Image.fromarray(phantom.lungs.astype(np.uint8) * 255).save(root / files[LUNGS])
    if entry.finding is not None:
        Image.fromarray(phantom.lesion.astype(np.uint8) * 255).save(root / files[LESIONS])
    reading = f"Patient's Sex: {phantom.sex}\nPatient's Age: {phantom.age:03d}Y\n{entry.finding or 'normal'}\n"
    (root / files[READINGS]).write_text(reading, encoding="utf-8")


def _levels(image: NDArray[np.float32], bits: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return the gray levels of an image in [0, 1] at a bit depth."""
    levels = np.rint(image.astype(np.float64) * ((1 << bits) - 1))
    return levels.astype(np.uint8 if bits == 8 else np.uint16)  # noqa: PLR2004
