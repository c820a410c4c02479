"""Tiny phantoms in every real layout of the Montgomery and Shenzhen sets, written once per run and never changed."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from itertools import cycle, product
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import label

from anomalib_cxr.data.phantom.files import write_phantoms
from anomalib_cxr.data.reading.radiograph import read_mask, read_radiograph
from anomalib_cxr.screening.case import Case, Decision
from anomalib_cxr.screening.worklist.store import Worklist
from anomalib_cxr.segmentation.network import LungSegmenter, save_segmenter
from anomalib_cxr.segmentation.training import fit_segmenter

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
REAL_ROOT = Path(__file__).resolve().parents[2] / "shared" / "data" / "montgomery_shenzhen"
N_NORMAL, N_SICK, SIZE = 10, 5, 64
UNMASKED = ("CHNCXR_0000_0", "CHNCXR_0014_1")  # of Shenzhen, as 96 of the 662 are


def pytest_configure(config):
    """Let caches lie in a folder of this run's own, and each of several workers have one thread.

    More threads than cores only hinder each other.
    """
    if not hasattr(config, "workerinput"):  # workers inherit it
        os.environ["XDG_CACHE_HOME"] = mkdtemp(prefix="anomalib-cxr-tests-")
    if hasattr(config, "workerinput"):
        torch.set_num_threads(1)


def pytest_unconfigure(config):
    """Delete the caches of this run."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ.pop("XDG_CACHE_HOME"), ignore_errors=True)


@pytest.fixture(autouse=True)
def default_handling_of_ended_processes():
    """Confine torch's handler of SIGCHLD to the test whose data loader has processes.

    It stays otherwise, and has ended the whole run by a segmentation fault at the end of a command of a later test.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a fixture of a wider scope may have set it
    yield
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def draw(folder, prefix, **settings):
    """Draw a set named as a hospital's, without what only phantoms have."""
    settings = {"n_normal": N_NORMAL, "n_sick": N_SICK, "size": SIZE, **settings}
    write_phantoms(folder, prefix=prefix, **settings)
    shutil.rmtree(folder / "lesions")
    (folder / "phantoms.json").unlink()
    return folder


def split_lungs(mask):
    """Split a lung mask into its two largest components: the lung on the left of the picture, and the other one."""
    components, count = label(np.asarray(mask) > 0)
    sizes = np.bincount(components.ravel(), minlength=count + 1)[1:]
    first, second = (components == 1 + index for index in np.argsort(sizes)[-2:])
    sides = sorted((first, second), key=lambda lung: np.nonzero(lung)[1].mean())
    return [Image.fromarray(lung.astype(np.uint8) * 255) for lung in sides]


def make_montgomery(root, merged):
    """Lay out a set as the official Montgomery archive does; masks keep the name and have a folder for each lung."""
    top = root / "MontgomerySet"
    for name in ("CXR_png", "ClinicalReadings"):
        shutil.copytree(merged / name, top / name)
    for side in ("leftMask", "rightMask"):
        (top / "ManualMask" / side).mkdir(parents=True)
    for path in (merged / "masks").iterdir():
        right, left = split_lungs(Image.open(path))  # the patient's right lung is on the picture's left
        left.save(top / "ManualMask/leftMask" / path.name)
        right.save(top / "ManualMask/rightMask" / path.name)
    (top / "NLM-MontgomeryCXRSet-ReadMe.pdf").write_bytes(b"%PDF-1.4")
    return root


def make_shenzhen(root, merged):
    """Lay out a set as the official Shenzhen archive does, which has no masks."""
    top = root / "ChinaSet_AllFiles"
    shutil.copytree(merged / "CXR_png", top / "CXR_png")
    (top / "CXR_png" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (top / "ClinicalReadings").mkdir()
    for path in (merged / "ClinicalReadings").iterdir():
        (top / "ClinicalReadings" / path.name).write_text(shenzhen_reading(path.read_text()))
    return root


def shenzhen_reading(text):
    """Say what a phantom's reading says in the words of the Shenzhen set."""
    sex, age, finding = text.splitlines()
    return f"{'female' if sex.endswith('F') else 'male'} {int(age[-4:-1])}yrs\n{finding}\n"


def make_kaggle_masks(root, merged):
    """Lay out Kaggle's masks of the Shenzhen set, of which some are missing."""
    (root / "mask").mkdir(parents=True)
    for path in (merged / "masks").iterdir():
        if not path.stem.startswith(UNMASKED):
            shutil.copy(path, root / "mask")
    return root


def make_merged(root, montgomery, shenzhen):
    """Lay out both sets as Kaggle's merged one does, under its usual top folder."""
    top = root / "Lung Segmentation"
    for folder in (montgomery, shenzhen):
        shutil.copytree(folder, top, dirs_exist_ok=True)
    (top / "test").mkdir()
    for stem in UNMASKED:
        (top / "masks" / f"{stem}_mask.png").unlink()
        shutil.copy(top / "CXR_png" / f"{stem}.png", top / "test")
    (top / "NLM-ChinaCXRSet-ReadMe.docx").write_bytes(b"PK")
    return root


@pytest.fixture(scope="session")
def montgomery_files(tmp_path_factory):
    """A set with Montgomery's names: `CXR_png/`, `masks/`, `ClinicalReadings/`."""
    return draw(tmp_path_factory.mktemp("montgomery") / "set", "MCUCXR", seed=1)


@pytest.fixture(scope="session")
def shenzhen_files(tmp_path_factory):
    """A set with Shenzhen's names: `CXR_png/`, `masks/` with `_mask` in the names, `ClinicalReadings/`."""
    return draw(tmp_path_factory.mktemp("shenzhen") / "set", "CHNCXR", seed=2)


@pytest.fixture(scope="session")
def montgomery_root(tmp_path_factory, montgomery_files):
    """The official Montgomery archive, unpacked."""
    return make_montgomery(tmp_path_factory.mktemp("official_montgomery"), montgomery_files)


@pytest.fixture(scope="session")
def shenzhen_root(tmp_path_factory, shenzhen_files):
    """The official Shenzhen archive, unpacked, and Kaggle's masks beside it."""
    root = make_shenzhen(tmp_path_factory.mktemp("official_shenzhen"), shenzhen_files)
    return make_kaggle_masks(root, shenzhen_files)


@pytest.fixture(scope="session")
def unmasked_root(tmp_path_factory, shenzhen_files):
    """The official Shenzhen archive alone, which has no masks."""
    return make_shenzhen(tmp_path_factory.mktemp("unmasked"), shenzhen_files)


@pytest.fixture(scope="session")
def side_by_side_root(tmp_path_factory, montgomery_files, shenzhen_files):
    """Both official archives and Kaggle's masks in one folder."""
    root = make_montgomery(tmp_path_factory.mktemp("side_by_side"), montgomery_files)
    return make_kaggle_masks(make_shenzhen(root, shenzhen_files), shenzhen_files)


@pytest.fixture(scope="session")
def merged_root(tmp_path_factory, montgomery_files, shenzhen_files):
    """Kaggle's merged layout."""
    return make_merged(tmp_path_factory.mktemp("merged"), montgomery_files, shenzhen_files)


NIH_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
NIH_LABELS = {
    "normal": "No Finding",
    "consolidation": "Consolidation|Pneumonia",
    "nodules": "Nodule",
    "cavity": "Mass|Infiltration",
    "effusion": "Effusion",
    "miliary": "Infiltration",
}


def make_nih(root, drawn):
    """Lay out phantoms, each under several names, as NIH publishes ChestX-ray14: 48 X-rays are healthy, 32 are sick.

    The lung masks, which NIH does not have, lie beside the set in `lungs/`.

    There are 20 patients of four X-rays each, two PA and two AP. Every fifth patient is healthy in all of them, the
    others in two. Five patients are in the list of the test.
    """
    kinds = [cycle(sorted((drawn / "CXR_png").glob(f"*_{label}.png"))) for label in (0, 1)]
    lungs = root.with_name("lungs")
    lungs.mkdir()
    rows, lists = [], {"train_val_list.txt": [], "test_list.txt": []}
    for patient, follow_up in product(range(1, 21), range(4)):
        phantom = next(kinds[patient % 5 > 0 and follow_up in {1, 2}])
        finding = (drawn / "ClinicalReadings" / f"{phantom.stem}.txt").read_text().split()[-1]
        name = f"{patient:08d}_{follow_up:03d}.png"
        folder = root / f"images_{1 + patient // 7:03d}" / "images"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(phantom, folder / name)
        shutil.copy(drawn / "masks" / phantom.name, lungs / name)
        person = f"{30 + patient},{'FM'[patient % 2]},{('PA', 'AP')[follow_up % 2]}"
        rows.append(f"{name},{NIH_LABELS[finding]},{follow_up},{patient},{person},{SIZE},{SIZE},0.143,0.143")
        lists["test_list.txt" if patient > 15 else "train_val_list.txt"].append(name)
    (root / "Data_Entry_2017_v2020.csv").write_text("\n".join([NIH_HEADER, *rows, ""]))
    for name, images in lists.items():
        (root / name).write_text("\n".join(images))
    return root


@pytest.fixture(scope="session")
def phantom_root(tmp_path_factory):
    """Phantoms under their own name, with masks of the lesions."""
    root = tmp_path_factory.mktemp("phantoms") / "set"
    return write_phantoms(root, n_normal=N_NORMAL, n_sick=N_SICK, size=SIZE, seed=3)


@pytest.fixture(scope="session")
def nih_root(tmp_path_factory, phantom_root):
    """NIH ChestX-ray14 as it is published; see :func:`make_nih`."""
    return make_nih(tmp_path_factory.mktemp("nih") / "set", phantom_root)


@pytest.fixture(scope="session")
def segmenter_path(tmp_path_factory, shenzhen_files):
    """A lung segmenter that knows the phantoms with Shenzhen's names."""
    files = sorted((shenzhen_files / "CXR_png").iterdir())
    masks = [shenzhen_files / "masks" / f"{path.stem}_mask.png" for path in files]
    images = torch.stack([read_radiograph(path) for path in files]) * 2 - 1
    path = tmp_path_factory.mktemp("segmenter") / "segmenter.pt"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        segmenter = LungSegmenter(32, (4, 4, 8, 8, 16))
    fit_segmenter(
        segmenter, images, torch.stack([read_mask(path)[None] for path in masks]), steps=80, batch_size=8, seed=0
    )
    save_segmenter(segmenter, path)
    return path


@pytest.fixture
def editable(tmp_path):
    """Copy a data folder to where a test may damage it."""
    return lambda root: Path(shutil.copytree(root, tmp_path / "data"))


@pytest.fixture
def real_root():
    """The real Montgomery and Shenzhen images, which lie beside the repository or nowhere."""
    if not REAL_ROOT.is_dir():
        pytest.skip("the real images are not there")
    return REAL_ROOT


@pytest.fixture(scope="session")
def hospital():
    """A simulated hospital: the script that measures alarms of monitoring."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import monitor_alarms  # noqa: PLC0415  # a script

        yield monitor_alarms
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def fill_worklist(tmp_path, hospital):
    """Make a worklist of X-rays that a change of the hospital has befallen."""

    def fill(n=300, seed=1, folder="out", **change):
        rng = np.random.default_rng(seed)
        reference, rows = hospital.draw_reference(rng), hospital.draw_rows(rng, n, change)
        worklist = Worklist(tmp_path / folder, create=True)
        worklist.add([_simulated(rows, place) for place in range(n)])
        worklist.keep_reference("c" * 64, reference)
        return worklist

    return fill


def _simulated(rows, place):
    decision = Decision(rows.decision[place])
    figures = {name: getattr(rows, name)[place] for name in ("score", "lung_gray", "tissue_contrast")}
    known = {} if decision is Decision.REFUSED else {name: float(value) for name, value in figures.items()}
    return Case(
        f"/xrays/{place}.dcm",
        1,
        1,
        decision,
        why=rows.why[place],
        source=rows.machine[place],
        view=rows.view[place],
        screened=f"{rows.week[place]}T10:00:00+00:00",
        content=f"{place:064x}",
        calibration="c" * 64,
        **known,
    )
