"""The cache of decoded images: the same pictures bit for bit, each decoded once, whatever happens to the file."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from anomalib_cxr.data.datasets import image_cache as cache_module
from anomalib_cxr.data.datasets.dataset import RoiDataset
from anomalib_cxr.data.datasets.image_cache import PictureCache, after
from anomalib_cxr.data.datasets.verification import inspect, picture_files
from anomalib_cxr.data.phantom.files import write_phantoms
from anomalib_cxr.data.sources.samples import make_samples
from anomalib_cxr.errors import DatasetError, SettingError

RESIZE = v2.Resize((32, 32), antialias=True)
N = 6


@pytest.fixture
def root(tmp_path):
    return write_phantoms(tmp_path / "phantoms", n_normal=4, n_sick=2, size=64, bits=16)


@pytest.fixture
def new(root, tmp_path):
    """Make a cache as a process does that has just started."""
    return lambda resize=RESIZE, **settings: PictureCache(root, resize, tmp_path / "caches", **settings)


@pytest.fixture
def samples(root):
    return make_samples(root)


@pytest.fixture
def table(samples):
    return list(picture_files(samples))


@pytest.fixture
def decoded(monkeypatch):
    """The files that are decoded from now on."""
    files = []
    monkeypatch.setattr(cache_module, "inspect", lambda each: files.append(each) or inspect(each))
    monkeypatch.setattr(cache_module, "read_pictures", lambda each: files.append(each) or inspect(each).pictures)
    return files


def assert_same_items(samples, cache, augmentations=RESIZE):
    plain, cached = RoiDataset(samples, augmentations), RoiDataset(samples, augmentations)
    cached.cache = cache
    for expected, item in zip(plain, cached, strict=True):
        for name in ("image", "roi_mask", "gt_mask"):
            one, other = getattr(expected, name), getattr(item, name)
            assert (one is None) == (other is None)
            assert one is None or (one.dtype == other.dtype and torch.equal(one, other))


class TestSame:
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
        cache = PictureCache(root, RESIZE, tmp_path)
        cache.fill(list(picture_files(samples)))
        assert_same_items(samples, cache)

    def test_what_follows_the_resizing_is_done_each_time(self, samples, table, new, decoded):
        cache = new()
        cache.fill(table)
        decoded.clear()
        assert_same_items(samples, cache, v2.Compose([RESIZE, v2.RandomHorizontalFlip(p=1)]))
        assert decoded == []

    def test_what_precedes_it_sees_the_original(self, samples, table, new):
        cache = new()
        cache.fill(table)
        assert_same_items(samples, cache, v2.Compose([v2.CenterCrop(48), RESIZE]))
        assert_same_items(samples, cache, v2.Resize((48, 48), antialias=True))

    def test_by_processes_that_load(self, samples, table, new):
        dataset = RoiDataset(samples, RESIZE)
        dataset.cache = new()
        dataset.cache.fill(table)
        loader = DataLoader(dataset, batch_size=2, collate_fn=dataset.collate_fn, num_workers=2)
        images = torch.cat([batch.image for batch in loader])
        assert torch.equal(images, torch.stack([item.image for item in RoiDataset(samples, RESIZE)]))

    def test_after_a_journey(self, samples, table, new):
        cache = new()
        cache.fill(table)
        assert_same_items(samples, pickle.loads(pickle.dumps(cache)))  # noqa: S301

    def test_settings_have_files_of_their_own(self, samples, table, new):
        other = v2.Resize((16, 24), antialias=True)
        for resize in (RESIZE, other):
            new(resize).fill(table)
        assert new().path != new(other).path
        cache = new(other)
        cache.fill(table)
        assert_same_items(samples, cache, other)


class TestOnce:
    def test_a_second_process_decodes_nothing(self, table, new, decoded):
        new().fill(table)
        assert len(decoded) == N
        new().fill(table)
        assert len(decoded) == N

    def test_only_what_is_added(self, table, new, decoded):
        new().fill(table[:2])
        new().fill(table)
        assert sorted(decoded) == sorted(table)

    def test_an_interrupted_build_goes_on(self, table, new, decoded, monkeypatch):
        monkeypatch.setattr(os, "cpu_count", lambda: 1)

        def interrupted(files):
            if files == table[3]:
                raise KeyboardInterrupt
            return inspect(files)

        with monkeypatch.context() as patch:
            patch.setattr(cache_module, "inspect", interrupted)
            with pytest.raises(KeyboardInterrupt):
                new().fill(table)
        new().fill(table)
        assert decoded == table[3:]

    def test_two_processes_at_once(self, root, samples, table, new):
        lines = [
            "from pathlib import Path; import sys, logging; logging.basicConfig(level='INFO')",
            "from torchvision.transforms.v2 import Resize",
            "from anomalib_cxr.data import cache, verification",
            "from anomalib_cxr.data.datasets.verification import picture_files",
            "from anomalib_cxr.data.sources.samples import make_samples",
            "cache.inspect = lambda files: sys.stdout.write(files.image + chr(10)) and verification.inspect(files)",
            "root, folder = map(Path, sys.argv[1:])",
            "made = cache.PictureCache(root, Resize((32, 32), antialias=True), folder)",
            "made.fill(list(picture_files(make_samples(root))))",
        ]
        words = [sys.executable, "-c", "\n".join(lines), root, new().path.parent]
        pair = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]  # noqa: S603
        said = [line for process in pair for line in process.communicate(timeout=120)[0].splitlines()]
        assert [process.returncode for process in pair] == [0, 0]
        assert sorted(line for line in said if line.endswith(".png")) == sorted(files.image for files in table)
        cache = new()
        cache.fill(table)
        assert_same_items(samples, cache)


class TestStale:
    def test_touched_but_the_same(self, table, new, decoded):
        new().fill(table)
        os.utime(table[0].image, (1, 1))
        decoded.clear()
        new().fill(table)
        assert decoded == []

    @pytest.mark.parametrize("which", ["image", "roi_mask", "lesion"])
    def test_changed_files_are_read_anew(self, samples, table, new, decoded, which):
        new().fill(table)
        changed = table[-1]
        path = {"image": changed.image, "roi_mask": changed.roi_masks[0], "lesion": changed.lesion}[which]
        Image.fromarray(np.asarray(Image.open(path))[::-1].copy()).save(path)
        decoded.clear()
        cache = new()
        cache.fill(table)
        assert decoded == [changed]
        assert_same_items(samples, cache)

    def test_damaged_records_are_read_anew(self, samples, table, new, decoded):
        cache = new()
        cache.fill(table)
        content = bytearray(cache.path.read_bytes())
        content[200] ^= 1
        cache.path.write_bytes(content)
        cache = new()
        cache.fill(table)
        decoded.clear()
        assert_same_items(samples, cache)
        assert len(decoded) == 1
        assert_same_items(samples, cache)
        assert len(decoded) == 1  # it was written anew

    @pytest.mark.parametrize("content", [b"", b"no cache" * 10_000])
    def test_a_file_that_is_something_else(self, samples, table, new, content):
        cache = new()
        cache.fill(table)
        size = cache.path.stat().st_size
        cache.path.write_bytes(content)
        cache = new()
        cache.fill(table)
        assert_same_items(samples, cache)
        assert cache.path.stat().st_size <= max(size, len(content))

    def test_deleted_while_it_is_used(self, samples, table, new):
        cache = new()
        cache.fill(table)
        cache.path.unlink()
        assert_same_items(samples, cache)

    def test_of_other_versions(self, table, new, decoded, monkeypatch):
        new().fill(table)
        monkeypatch.setattr(cache_module, "_READ_BY", ("2.0",))
        new().fill(table)
        assert len(decoded) == 2 * N


class TestBroken:
    def test_what_is_wrong_is_told_each_time(self, table, new):
        with open(table[1].image, "r+b") as file:  # noqa: PTH123
            file.truncate(100)
        Image.new("L", (64, 64)).save(table[2].roi_masks[0])
        for _ in range(2):
            problems = new().fill(table)
            assert [len(each) for each in problems] == [0, 1, 1, 0, 0, 0]
            assert "truncated" in problems[1][0].reason
            assert problems[2][0].reason == "lung mask is empty"

    def test_once_repaired_it_is_there(self, table, new, decoded):
        whole = open(table[1].image, "rb").read()  # noqa: PTH123, SIM115
        for content, found in ((b"", [1]), (whole, [])):
            with open(table[1].image, "wb") as file:  # noqa: PTH123
                file.write(content)
            assert [number for number, each in enumerate(new().fill(table)) if each] == found
        decoded.clear()
        new().fill(table)
        assert decoded == []


class TestRoom:
    def test_larger_than_its_bound(self, table, new):
        with pytest.raises(SettingError, match=r"a cache of .* GB(?s:.*)at most cache_gigabytes = 1e-05(?s:.*)false"):
            new(gigabytes=1e-5).fill(table)
        assert not new().path.exists()

    def test_the_one_unused_for_longest_makes_room(self, table, new):
        sizes = [v2.Resize((side, side)) for side in (16, 24, 32)]
        for resize in sizes:
            new(resize).fill(table)
        os.utime(new(sizes[0]).path)
        os.utime(new(sizes[1]).path, (1, 1))
        new(v2.Resize((20, 20)), gigabytes=26 * 4096 / 1e9).fill(table)
        assert not new(sizes[1]).path.exists()
        assert new(sizes[0]).path.exists()

    def test_a_full_disk(self, table, new, monkeypatch):
        full = SimpleNamespace(free=1000)
        monkeypatch.setattr("anomalib_cxr.data.datasets.cache_room.shutil.disk_usage", lambda _: full)
        with pytest.raises(DatasetError, match=r"1e-06 GB free in (?s:.*)cache_folder"):
            new().fill(table)

    def test_a_disk_that_fills_up(self, table, new, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("anomalib_cxr.data.datasets.record_file._put", full)
        with pytest.raises(DatasetError, match=r"No space left on device(?s:.*)cache to false"):
            new().fill(table)

    def test_a_folder_that_cannot_be(self, root, table, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(DatasetError, match="cannot be written"):
            PictureCache(root, RESIZE, tmp_path / "file" / "caches").fill(table)


class TestAfter:
    def test_the_resizing_alone(self):
        assert after(RESIZE, v2.Resize((32, 32), antialias=True)) == (True, None)
        assert after(RESIZE, v2.Compose([RESIZE])) == (True, None)

    @pytest.mark.parametrize(
        "augmentations",
        [None, v2.Resize((32, 33)), v2.Resize((32, 32), antialias=False), v2.Compose([v2.RandomRotation(5), RESIZE])],
    )
    def test_something_else_first(self, augmentations):
        assert after(RESIZE, augmentations) == (False, augmentations)
