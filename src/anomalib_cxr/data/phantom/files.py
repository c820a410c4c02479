"""Phantoms on disk, in the layout in which the merged Montgomery and Shenzhen sets are shared."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track

from anomalib_cxr._version import __version__
from anomalib_cxr.errors import DatasetError, SettingError

from .drawing import DEFAULT_NOISE, LARGEST, SMALLEST, NoiseModel, Phantom, draw_phantom
from .findings import FINDINGS, Finding

RECORD = "phantoms.json"  # written last: a folder that has it is complete
DICOM = "DICOM"  # a copy of the images, by `phantom_dicom`: made from the set, and no part of its record
IMAGES, LUNGS, LESIONS, READINGS = "CXR_png", "masks", "lesions", "ClinicalReadings"


@dataclass(frozen=True)
class PhantomSet:
    """What a folder of phantoms holds; its fields are the record on disk.

    Args:
        n_normal: Healthy radiographs.
        n_sick: Radiographs with a finding; the findings take turns.
        size: Height and width in pixels.
        seed: Seed of the set.
        prefix: First part of the names, such as a hospital's in the real sets.
        bits: Depth of the PNG files, 8 or 16.
        noise: Noise of the detector.
        version: Version of the package that drew them.

    Raises:
        SettingError: If a setting is outside its range.
    """

    n_normal: int
    n_sick: int
    size: int = 256
    seed: int = 0
    prefix: str = "PHANTOM"
    bits: int = 8
    noise: NoiseModel = DEFAULT_NOISE
    version: str = __version__

    def __post_init__(self) -> None:
        rules = {
            "n_normal": (self.n_normal >= 0, "n_normal >= 0"),
            "n_sick": (self.n_sick >= 0, "n_sick >= 0"),
            "size": (SMALLEST <= self.size <= LARGEST, f"{SMALLEST} <= size <= {LARGEST}, in pixels"),
            "seed": (self.seed >= 0, "seed >= 0"),
            "prefix": (re.fullmatch("[A-Za-z0-9-]+", self.prefix), "letters, digits and hyphens"),
            "bits": (self.bits in {8, 16}, "bits = 8 or 16"),
        }
        for name, (holds, expected) in rules.items():
            if not holds:
                raise SettingError(f"{name} = {getattr(self, name)!r}", expected, f"correct {name}")

    def cases(self) -> Iterator[Case]:
        """List the radiographs, the healthy ones first."""
        names = list(FINDINGS)
        for index in range(self.n_normal + self.n_sick):
            sick = index - self.n_normal
            yield Case(self, index, names[sick % len(names)] if sick >= 0 else None)

    def record(self) -> str:
        """Return the text of the record on disk."""
        return json.dumps(asdict(self), indent=2) + "\n"


@dataclass(frozen=True)
class Case:
    """One radiograph of a set and the places of its files in the set's folder."""

    of: PhantomSet
    index: int
    finding: Finding | None

    @property
    def name(self) -> str:
        """Name of the files, which ends in the label: 0 normal, 1 sick."""
        return f"{self.of.prefix}_{self.index:04d}_{int(self.finding is not None)}"

    def files(self) -> dict[str, str]:
        """Return the relative path of each file, by its folder."""
        # The real set marks Shenzhen's masks, and only those, by a suffix.
        suffix = "_mask" if self.of.prefix.startswith("CHNCXR") else ""
        paths = {
            IMAGES: f"{IMAGES}/{self.name}.png",
            LUNGS: f"{LUNGS}/{self.name}{suffix}.png",
            READINGS: f"{READINGS}/{self.name}.txt",
        }
        return paths if self.finding is None else {**paths, LESIONS: f"{LESIONS}/{self.name}.png"}

    def draw(self) -> Phantom:
        """Draw the radiograph by its own generator, so that it is the same in a set of any length."""
        rng = np.random.default_rng(np.random.SeedSequence((self.of.seed, self.index)))
        return draw_phantom(rng, self.of.size, self.finding, self.of.noise)


def write_phantoms(
    root: Path | str,
    *,
    n_normal: int = 300,
    n_sick: int = 100,
    size: int = 256,
    seed: int = 0,
    prefix: str = "PHANTOM",
    bits: int = 8,
    noise: NoiseModel = DEFAULT_NOISE,
) -> Path:
    """Draw a set of phantoms into a folder that appears complete or not at all.

    A folder that already holds this very set is left alone. Several processes may ask for the same set at once.

    Args:
        root: Folder of the set, to be created.
        n_normal: Healthy radiographs, named `{prefix}_{index}_0`.
        n_sick: Radiographs with a finding, named `{prefix}_{index}_1`; the findings take turns.
        size: Height and width in pixels, 32 to 2048.
        seed: Seed of the set.
        prefix: First part of the names; "CHNCXR" names the lung masks as the Shenzhen set does.
        bits: Depth of the PNG files, 8 or 16.
        noise: Noise of the detector.

    Returns:
        The folder, with `CXR_png/`, `masks/` (lungs), `lesions/` (of the sick), `ClinicalReadings/`, `phantoms.json`.

    Raises:
        SettingError: If a setting is outside its range.
        DatasetError: If the folder holds another set or other files, or cannot be written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     root = write_phantoms(Path(folder) / "phantoms", n_normal=1, n_sick=1, size=64)
        ...     sorted(path.name for path in (root / "CXR_png").iterdir())
        ['PHANTOM_0000_0.png', 'PHANTOM_0001_1.png']
    """
    wanted, root = PhantomSet(n_normal, n_sick, size, seed, prefix, bits, noise), Path(root)
    with writing(root):
        if _is_complete(root, wanted):
            return root
        root.parent.mkdir(parents=True, exist_ok=True)
        with lock_of(root):
            if not _is_complete(root, wanted):  # another process may have drawn it meanwhile
                _draw_aside(root, wanted)
    return root


@contextmanager
def writing(root: Path) -> Iterator[None]:
    """Tell in words what keeps a folder from being written."""
    try:
        yield
    except OSError as error:
        raise DatasetError(
            f"{root}: cannot be written ({error})",
            "a place with enough free space and the right to write",
            "choose another folder, or free space, and start again",
        ) from error


def lock_of(root: Path) -> FileLock:
    """Return the lock that one process at a time holds to write a set."""
    return FileLock(root.with_name(f".{root.name}.lock"))


def _is_complete(root: Path, wanted: PhantomSet) -> bool:
    """Tell a finished set from a free place; refuse anything else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    record = root / RECORD
    if not record.is_file():
        raise DatasetError(f"{root}: something else than a set of phantoms", "a new folder", "choose another folder")
    _refuse_other_settings(record, wanted)
    _refuse_other_files(root, wanted)
    return True


def _refuse_other_settings(record: Path, wanted: PhantomSet) -> None:
    try:
        found = dict(json.loads(record.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise DatasetError(f"{record}: not a record of phantoms", "the record of a set", "delete the folder") from error
    asked = json.loads(wanted.record())
    differing = [
        f"{name} = {found.get(name)!r}, not {asked[name]!r}" for name in asked if found.get(name) != asked[name]
    ]
    if differing:
        raise DatasetError(
            f"{record.parent}: phantoms with {'; '.join(differing)}",
            "the settings that are asked for",
            "delete the folder, or choose another one for the new settings",
        )


def _refuse_other_files(root: Path, wanted: PhantomSet) -> None:
    """Compare the files with those of the set; hidden ones, which belong to the system, and DICOM do not count."""
    expected = {RECORD} | {path for case in wanted.cases() for path in case.files().values()}
    paths = {path.relative_to(root) for path in root.rglob("*") if not path.is_dir()}
    paths = {path for path in paths if path.parts[0] != DICOM and not any(part.startswith(".") for part in path.parts)}
    found = {path.as_posix() for path in paths}
    offenders = {"foreign": sorted(found - expected), "missing": sorted(expected - found)}
    offenders = {reason: names for reason, names in offenders.items() if names}
    if offenders:
        raise DatasetError(
            f"{root}: not the files of its record",
            f"the {len(expected)} files of the set and no others",
            "move foreign files elsewhere; if some are missing, delete the folder, which is then drawn anew",
            offenders,
        )


def _draw_aside(root: Path, wanted: PhantomSet) -> None:
    """Draw into a hidden folder beside the root and rename it at the end."""
    aside = root.with_name(f".{root.name}.partial")
    if aside.exists():  # an interrupted attempt: whoever holds the lock is alone
        shutil.rmtree(aside)
    try:
        for folder in (IMAGES, LUNGS, LESIONS, READINGS):
            (aside / folder).mkdir(parents=True)
        cases = list(wanted.cases())
        for case in track(cases, description="Drawing phantoms", transient=True):
            _write(aside, case)
        (aside / RECORD).write_text(wanted.record(), encoding="utf-8")
        if root.exists():  # an empty folder, which not every system replaces
            root.rmdir()
        aside.replace(root)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write(root: Path, case: Case) -> None:
    phantom, files = case.draw(), case.files()
    Image.fromarray(_levels(phantom.image, case.of.bits)).save(root / files[IMAGES])
    Image.fromarray(phantom.lungs.astype(np.uint8) * 255).save(root / files[LUNGS])
    if case.finding is not None:
        Image.fromarray(phantom.lesion.astype(np.uint8) * 255).save(root / files[LESIONS])
    reading = f"Patient's Sex: {phantom.sex}\nPatient's Age: {phantom.age:03d}Y\n{case.finding or 'normal'}\n"
    (root / files[READINGS]).write_text(reading, encoding="utf-8")


def _levels(image: NDArray[np.float32], bits: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Round an image in [0, 1] to the gray levels of a PNG."""
    levels = np.rint(image.astype(np.float64) * ((1 << bits) - 1))
    if bits == 8:  # noqa: PLR2004
        return levels.astype(np.uint8)
    return levels.astype(np.uint16)
