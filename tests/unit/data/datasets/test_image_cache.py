"""Cache of decoded images: bit-identical tensors, each sample decoded once, damaged and stale files rebuilt."""

from __future__ import annotations

import os
import pickle
import shutil
import stat
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from anomalib_cxr.data.datasets import image_cache
from anomalib_cxr.data.datasets.dataset import RoiDataset
from anomalib_cxr.data.datasets.image_cache import ImageCache, split_off_resize
from anomalib_cxr.data.datasets.sample_tensors import check_sample
from anomalib_cxr.data.datasets.verification import sample_paths
from anomalib_cxr.data.phantom.files import write_phantoms
from anomalib_cxr.data.sources.samples import make_samples
from anomalib_cxr.errors import DatasetError, RadiographError, SettingError

RESIZE = v2.Resize((32, 32), antialias=True)
N = 6


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    return write_phantoms(tmp_path_factory.mktemp("drawn") / "phantoms", n_normal=4, n_sick=2, size=64, bits=16)


@pytest.fixture
def root(phantoms, tmp_path):
    return shutil.copytree(phantoms, tmp_path / "phantoms")


@pytest.fixture
def new(root, tmp_path):
    """Make a cache as a process does that has just started."""
    return lambda resize=RESIZE, **settings: ImageCache(root, resize, tmp_path / "caches", **settings)


@pytest.fixture
def samples(root):
    return make_samples(root)


@pytest.fixture
def table(samples):
    return list(sample_paths(samples))


@pytest.fixture
def decoded(monkeypatch):
    """The samples that are decoded from now on."""
    samples = []
    monkeypatch.setattr(image_cache, "check_sample", lambda paths: samples.append(paths) or check_sample(paths))
    monkeypatch.setattr(image_cache, "read_sample", lambda paths: samples.append(paths) or check_sample(paths)[0])
    return samples


def array_files(cache):
    return sorted(cache.directory.glob("*.npz"))


def assert_same_items(samples, cache, augmentations=RESIZE):
    plain, cached = RoiDataset(samples, augmentations), RoiDataset(samples, augmentations)
    cached.cache = cache
    for expected, item in zip(plain, cached, strict=True):
        for name in ("image", "roi_mask", "gt_mask"):
            one, other = getattr(expected, name), getattr(item, name)
            assert (one is None) == (other is None)
            assert one is None or (one.dtype == other.dtype and torch.equal(one, other))


class TestIdentity:
    def test_bit_for_bit(self, samples, table, new, decoded):
        cache = new()
        assert cache.fill(table) == [[]] * N
        decoded.clear()
        assert_same_items(samples, cache)
        assert decoded == []

    @pytest.mark.parametrize("layout", ["merged_root", "montgomery_root", "unmasked_root"])
    def test_in_every_layout(self, layout, request, tmp_path):
        root = request.getfixturevalue(layout)
        samples = make_samples(root)
        cache = ImageCache(root, RESIZE, tmp_path)
        cache.fill(list(sample_paths(samples)))
        assert_same_items(samples, cache)

    def test_steps_after_the_resizing_are_applied_each_time(self, samples, table, new, decoded):
        cache = new()
        cache.fill(table)
        decoded.clear()
        assert_same_items(samples, cache, v2.Compose([RESIZE, v2.RandomHorizontalFlip(p=1)]))
        assert decoded == []

    def test_steps_before_it_get_the_original(self, samples, table, new):
        cache = new()
        cache.fill(table)
        assert_same_items(samples, cache, v2.Compose([v2.CenterCrop(48), RESIZE]))
        assert_same_items(samples, cache, v2.Resize((48, 48), antialias=True))

    def test_by_loading_processes(self, samples, table, new):
        dataset = RoiDataset(samples, RESIZE)
        dataset.cache = new()
        dataset.cache.fill(table)
        loader = DataLoader(dataset, batch_size=2, collate_fn=dataset.collate_fn, num_workers=2)
        images = torch.cat([batch.image for batch in loader])
        assert torch.equal(images, torch.stack([item.image for item in RoiDataset(samples, RESIZE)]))

    def test_after_pickling(self, samples, table, new, decoded):
        cache = new()
        cache.fill(table)
        decoded.clear()
        assert_same_items(samples, pickle.loads(pickle.dumps(cache)))  # noqa: S301
        assert decoded == []


class TestDecodedOnce:
    def test_a_second_process_decodes_nothing(self, table, new, decoded):
        for _ in range(2):
            new().fill(table)
        assert len(decoded) == N

    def test_only_new_samples(self, table, new, decoded):
        new().fill(table[:2])
        new().fill(table)
        assert sorted(decoded) == sorted(table)

    def test_an_interrupted_fill_continues(self, table, new, decoded, monkeypatch):
        monkeypatch.setattr(os, "cpu_count", lambda: 1)

        def interrupted(paths):
            if paths == table[3]:
                raise KeyboardInterrupt
            return check_sample(paths)

        with monkeypatch.context() as patch:
            patch.setattr(image_cache, "check_sample", interrupted)
            with pytest.raises(KeyboardInterrupt):
                new().fill(table)
        new().fill(table)
        assert decoded[0] == table[3]
        assert not set(decoded) & set(table[:3])

    @pytest.mark.slow
    def test_two_processes_at_once(self, root, samples, table, new):
        lines = [
            "from pathlib import Path; import sys",
            "from torchvision.transforms.v2 import Resize",
            "from anomalib_cxr.data.datasets import image_cache, sample_tensors, verification",
            "from anomalib_cxr.data.sources.samples import make_samples",
            "check = sample_tensors.check_sample",
            "write = sys.stdout.write  # one write a line: `print` writes its end apart, and threads mix the two",
            "image_cache.check_sample = lambda paths: [write(f'{paths.image}\\n'), check(paths)][1]",
            "root, folder = map(Path, sys.argv[1:])",
            "cache = image_cache.ImageCache(root, Resize((32, 32), antialias=True), folder)",
            "cache.fill(list(verification.sample_paths(make_samples(root))))",
        ]
        command = [sys.executable, "-c", "\n".join(lines), root, new().folder]
        pair = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]  # noqa: S603
        printed = [line for process in pair for line in process.communicate(timeout=120)[0].splitlines()]
        assert [process.returncode for process in pair] == [0, 0]
        assert sorted(line for line in printed if line.endswith(".png")) == sorted(paths.image for paths in table)
        assert_same_items(samples, new())

    def test_settings_have_files_of_their_own(self, samples, table, new, decoded):
        settings = [(32, 32), (24, 32), (32, 24)]
        resizes = [v2.Resize(size) for size in settings] + [v2.Resize((32, 32), antialias=False)]
        for resize in resizes:
            new(resize).fill(table)
        assert len(decoded) == len(resizes) * N
        decoded.clear()
        for resize in resizes:
            assert_same_items(samples, new(resize), resize)
        assert decoded == []

    def test_other_versions(self, table, new, decoded, monkeypatch):
        new().fill(table)
        monkeypatch.setattr(image_cache, "_VERSIONS", ("2.0",))
        new().fill(table)
        assert len(decoded) == 2 * N


class TestStale:
    @pytest.mark.parametrize("which", ["image", "roi_mask", "lesion"])
    def test_changed_files_are_read_anew(self, samples, table, new, decoded, which):
        new().fill(table)
        changed = table[-1]
        path = {"image": changed.image, "roi_mask": changed.roi_masks[0], "lesion": changed.lesion}[which]
        Image.fromarray(np.asarray(Image.open(path))[::-1].copy()).save(path)
        decoded.clear()
        cache = new()
        assert_same_items(samples, cache)  # without being filled
        assert decoded == [changed]
        cache.fill(table)
        assert decoded == [changed] * 2
        assert_same_items(samples, cache)
        assert decoded == [changed] * 2

    def test_same_size_but_another_time(self, table, new, decoded):
        new().fill(table)
        os.utime(table[0].image, (1, 1))
        decoded.clear()
        new().fill(table)
        assert decoded == [table[0]]

    @pytest.mark.parametrize("offset", [0, 4, 35, 50, 100, 130, 1500, -1500, -120, -60, -10])
    def test_any_damaged_byte_is_detected(self, samples, table, new, offset):
        cache = new()
        cache.fill(table)
        for path in array_files(cache):
            content = bytearray(path.read_bytes())
            content[offset] ^= 0b101
            path.write_bytes(content)
        assert_same_items(samples, cache)

    @pytest.mark.parametrize("content", [b"", b"no cache" * 1_000, b"PK\x03\x04", b"\x93NUMPY"])
    def test_other_content_is_replaced(self, samples, table, new, decoded, content):
        cache = new()
        cache.fill(table)
        array_files(cache)[0].write_bytes(content)
        decoded.clear()
        for _ in range(2):
            assert_same_items(samples, cache)
            assert len(decoded) == 1  # written anew in the first pass

    def test_truncated(self, samples, table, new):
        cache = new()
        cache.fill(table)
        for path, size in zip(array_files(cache), (10, 100, 1000, 4000, 5000, 5500), strict=True):
            os.truncate(path, size)
        assert_same_items(samples, cache)

    def test_deleted_while_in_use(self, samples, table, new, decoded):
        cache = new()
        cache.fill(table)
        for path in array_files(cache):
            path.unlink()
        decoded.clear()
        assert_same_items(samples, cache)
        assert len(decoded) == N
        assert array_files(cache) == []

    def test_an_original_that_is_gone(self, table, new):
        cache = new()
        cache.fill(table)
        os.unlink(table[0].image)  # noqa: PTH108
        with pytest.raises(RadiographError, match="cannot be opened"):
            cache.read(table[0])


class TestProblems:
    def test_are_reported_each_time(self, table, new):
        with open(table[1].image, "r+b") as file:  # noqa: PTH123
            file.truncate(100)
        Image.new("L", (64, 64)).save(table[2].roi_masks[0])
        for _ in range(2):
            problems = new().fill(table)
            assert [len(found) for found in problems] == [0, 1, 1, 0, 0, 0]
            assert "truncated" in problems[1][0].reason
            assert problems[2][0].reason == "lung mask is empty"

    def test_until_they_are_repaired(self, table, new, decoded):
        whole = open(table[1].image, "rb").read()  # noqa: PTH123, SIM115
        for content, expected in ((b"", [1]), (whole, [])):
            with open(table[1].image, "wb") as file:  # noqa: PTH123
                file.write(content)
            assert [row for row, found in enumerate(new().fill(table)) if found] == expected
        decoded.clear()
        new().fill(table)
        assert decoded == []


class TestBound:
    def test_larger_than_the_bound(self, table, new):
        with pytest.raises(SettingError, match=r"a cache of .* GB(?s:.*)at most cache_gigabytes = 1e-05(?s:.*)false"):
            new(gigabytes=1e-5).fill(table)
        assert array_files(new()) == []

    def test_it_is_never_exceeded(self, table, new):
        gigabytes = 2.5 * N * 32 * 32 * 6 / 1e9
        for side in (16, 24, 32, 20):
            new(v2.Resize((side, side)), gigabytes=gigabytes).fill(table)
            assert sum(path.stat().st_size for path in new().folder.rglob("*.npz")) <= gigabytes * 1e9

    def test_least_recently_used_files_are_deleted(self, table, new, tmp_path):
        old, used, large = (new(v2.Resize((side, side)), gigabytes=21_500 / 1e9) for side in (20, 21, 40))
        foreign = tmp_path / "caches" / "results.npz"
        for cache in (used, old, used):
            cache.fill(table[:1])
        for path in array_files(old):
            os.utime(path, (1, 1))
        foreign.write_bytes(bytes(30_000))
        large.fill(table[:2])
        assert [len(array_files(cache)) for cache in (old, used, large)] == [0, 1, 2]
        assert foreign.exists()

    def test_a_disk_that_fills_up(self, table, new, monkeypatch):
        def full(*_, **__):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(np, "savez", full)
        with pytest.raises(DatasetError, match=r"No space left on device(?s:.*)cache to false"):
            new().fill(table)

    def test_a_folder_that_cannot_be_created(self, root, table, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(DatasetError, match="cannot be written"):
            ImageCache(root, RESIZE, tmp_path / "file" / "caches").fill(table)

    def test_nobody_else_may_read_it(self, table, new):
        cache = new()
        cache.fill(table)
        assert stat.S_IMODE(cache.directory.stat().st_mode) == 0o700


class TestSplitOffResize:
    def test_the_resizing_alone(self):
        assert split_off_resize(RESIZE, v2.Resize((32, 32), antialias=True)) == (True, None)
        assert split_off_resize(RESIZE, v2.Compose([RESIZE])) == (True, None)

    @pytest.mark.parametrize(
        "augmentations",
        [None, v2.Resize((32, 33)), v2.Resize((32, 32), antialias=False), v2.Compose([v2.RandomRotation(5), RESIZE])],
    )
    def test_another_first_step(self, augmentations):
        assert split_off_resize(RESIZE, augmentations) == (False, augmentations)
