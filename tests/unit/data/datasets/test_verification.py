"""Broken files: each kind is recognized, all are named in one error or left out, before anything starts."""

from __future__ import annotations

import logging
import re

import numpy as np
import pytest
from PIL import Image

from anomalib_cxr.data.datasets.verification import verify_samples
from anomalib_cxr.data.sources.samples import make_samples
from anomalib_cxr.errors import DatasetError

LUNG, LESION = "lung mask", "lesion mask"


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def no_image(path):
    path.write_text("<html>not found</html>")


def fill(value, size=(64, 64)):
    return lambda path: Image.fromarray(np.full(size, value, np.uint8)).save(path)


def offenders(caught, root):
    """Return what is wrong with each file, by its name; the decoder's own words are cut off."""
    return {
        path.relative_to(root).as_posix(): re.sub(r"damaged: .*", "damaged", reason)
        for reason, paths in caught.value.offenders.items()
        for path in paths
    }


IMAGES = {
    "CXR_png/PHANTOM_0000_0.png": (truncate, "truncated or damaged"),
    "CXR_png/PHANTOM_0001_0.png": (empty, "empty file (0 bytes)"),
    "CXR_png/PHANTOM_0012_1.png": (no_image, "not an image, or its header is damaged"),
}
MASKS = {
    "masks/PHANTOM_0002_0.png": (truncate, f"{LUNG}: truncated or damaged"),
    "masks/PHANTOM_0003_0.png": (fill(255, (32, 64)), f"{LUNG} of another size than its image"),
    "masks/PHANTOM_0004_0.png": (fill(0), f"{LUNG} is empty"),
    "masks/PHANTOM_0005_0.png": (fill(255), f"{LUNG} covers the whole image"),
    "masks/PHANTOM_0006_0.png": (empty, f"{LUNG}: empty file (0 bytes)"),
    "lesions/PHANTOM_0010_1.png": (fill(0), f"{LESION} is empty"),
    "lesions/PHANTOM_0011_1.png": (fill(255, (32, 32)), f"{LESION} of another size than its image"),
    "lesions/PHANTOM_0013_1.png": (no_image, f"{LESION}: not an image, or its header is damaged"),
}
DAMAGE = IMAGES | MASKS


@pytest.fixture
def damaged(editable, phantom_root):
    root = editable(phantom_root)
    for name, (damage, _) in DAMAGE.items():
        damage(root / name)
    return root


class TestSamples:
    def test_a_sound_table_is_returned_as_it_is(self, phantom_root):
        samples = make_samples(phantom_root)
        assert verify_samples(samples, "raise") is samples

    @pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, kind in DAMAGE.items()])
    def test_each_kind_alone(self, editable, phantom_root, name, kind):
        root, (damage, reason) = editable(phantom_root), kind
        damage(root / name)
        with pytest.raises(DatasetError, match="1 of 15 X-rays with files that cannot be used") as caught:
            verify_samples(make_samples(root), "raise")
        assert offenders(caught, root) == {name: reason}

    def test_all_offenders_in_one_error(self, damaged):
        with pytest.raises(DatasetError, match="11 of 15 X-rays with files that cannot be used") as caught:
            verify_samples(make_samples(damaged), "raise")
        assert offenders(caught, damaged) == {name: reason for name, (_, reason) in DAMAGE.items()}
        assert all(str(damaged / name) in str(caught.value) for name in DAMAGE)
        assert "data.init_args.on_error to skip" in caught.value.next_step

    def test_skip_leaves_out_and_warns(self, damaged, caplog):
        with caplog.at_level(logging.WARNING):
            samples = verify_samples(make_samples(damaged), "skip")
        kept = {f"PHANTOM_{index:04d}_{int(index >= 10)}" for index in (7, 8, 9, 14)}
        assert {path.rpartition("/")[2] for path in samples.image_path} == {f"{stem}.png" for stem in kept}
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert all(str(damaged / name) in record.getMessage() for name in DAMAGE)

    def test_skip_keeps_what_anomalib_wants_to_know(self, damaged):
        samples = make_samples(damaged)
        assert verify_samples(samples, "skip").attrs == samples.attrs

    def test_both_masks_of_one_image(self, editable, phantom_root):
        root = editable(phantom_root)
        names = ("masks/PHANTOM_0010_1.png", "lesions/PHANTOM_0010_1.png")
        for name in names:
            fill(0)(root / name)
        with pytest.raises(DatasetError, match="1 of 15") as caught:
            verify_samples(make_samples(root), "raise")
        assert offenders(caught, root) == {names[0]: f"{LUNG} is empty", names[1]: f"{LESION} is empty"}

    def test_left_and_right_mask_are_merged_before_they_are_judged(self, editable, montgomery_root):
        root = editable(montgomery_root)
        masks = root / "MontgomerySet/ManualMask"
        fill(0)(masks / "leftMask/MCUCXR_0000_0.png")  # one lung was taken out: no error
        fill(0)(masks / "leftMask/MCUCXR_0001_0.png")
        fill(0)(masks / "rightMask/MCUCXR_0001_0.png")
        fill(255, (32, 32))(masks / "rightMask/MCUCXR_0002_0.png")
        with pytest.raises(DatasetError, match="2 of 15") as caught:
            verify_samples(make_samples(root), "raise")
        assert offenders(caught, masks) == {
            "leftMask/MCUCXR_0001_0.png": f"{LUNG} is empty",
            "rightMask/MCUCXR_0002_0.png": f"{LUNG}: mask of 32 x 32 px, but MCUCXR_0002_0.png is 64 x 64 px",
        }

    def test_no_mask_is_no_offence(self, unmasked_root):
        assert len(verify_samples(make_samples(unmasked_root), "raise")) == 15
