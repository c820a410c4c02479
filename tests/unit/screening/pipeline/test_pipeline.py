"""Reading, input check and scores in one step, on valid and invalid files."""

from __future__ import annotations

import hashlib
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import openvino
import pydicom
import pytest
import torch
from PIL import Image, ImageFilter
from torch import nn

from anomalib_cxr.data.reading import content as content_module
from anomalib_cxr.data.reading.content import read_content
from anomalib_cxr.data.reading.intensities import read_intensities
from anomalib_cxr.deploy.runtime import ExportedModel
from anomalib_cxr.models.base.pre_processor import RoiPreProcessor
from anomalib_cxr.screening.fingerprint import NO_FINGERPRINT, fingerprint_of
from anomalib_cxr.screening.pipeline import pipeline as pipeline_module
from anomalib_cxr.screening.pipeline.pipeline import ScreeningPipeline, display_image
from anomalib_cxr.segmentation.network import load_segmenter

pytestmark = pytest.mark.slow

DICOM = "DICOM DX, anomalib_cxr phantom"


def run(pipeline, files):
    return [result for batch in pipeline(files) for result in batch]


@pytest.fixture
def edited(dicoms, tmp_path):
    """Write a DICOM file with some attributes changed."""

    def edit(**changes):
        dataset = pydicom.dcmread(dicoms[0])
        for keyword, value in changes.items():
            setattr(dataset, keyword, value)
        dataset.save_as(tmp_path / "edited.dcm")
        return tmp_path / "edited.dcm"

    return edit


class TestScores:
    def test_are_those_of_the_model_in_the_order_of_the_files(self, pipeline_of, scorer, images, stack):
        files = [images[number] for number in (70, 3, 61, 0, 33, 12, 79, 5, 50, 44, 8)]
        results = run(pipeline_of(), files)
        assert [result.path for result in results] == files
        passed = [result for result in results if not result.refusals]
        assert len(passed) >= 9
        expected = [scorer(stack([result.path])) for result in passed]
        assert [result.score for result in passed] == pytest.approx([float(one.score[0]) for one in expected], abs=1e-5)
        assert [result.raw_score for result in passed] == pytest.approx(
            [float(one.raw_score[0]) for one in expected], abs=1e-5
        )
        assert [result.label for result in passed] == [bool(one.label[0]) for one in expected]
        for result, one in zip(passed, expected, strict=True):
            np.testing.assert_allclose(result.heat, one.heat[0], atol=1e-4)

    def test_sizes_mixed_in_a_batch_score_as_alone(self, pipeline_of, images, tmp_path):
        files = []
        for number, side in enumerate([(64, 64), (90, 70), (64, 64), (70, 90), (90, 70), (64, 64)]):
            files.append(tmp_path / f"{number}.png")
            Image.open(images[number]).resize(side).save(files[-1])
        pipeline = pipeline_of()
        together = run(pipeline, files)
        alone = [run(pipeline, [file])[0] for file in files]
        assert [(result.height, result.width) for result in together] == [
            (64, 64),
            (70, 90),
            (64, 64),
            (90, 70),
            (70, 90),
            (64, 64),
        ]
        assert [result.refusals for result in together] == [result.refusals for result in alone]
        scores = [(one.score, other.score) for one, other in zip(together, alone, strict=True) if one.score is not None]
        assert len(scores) >= 4
        assert [one for one, _ in scores] == pytest.approx([other for _, other in scores], abs=1e-5)

    def test_a_file_given_twice(self, pipeline_of, images):
        first, second = run(pipeline_of(), [images[0], images[0]])
        assert first.score == second.score is not None

    def test_a_dicom_file_scores_as_its_picture(self, pipeline_of, dicoms):
        picture = dicoms[0].parents[4] / "CXR_png" / "PHANTOM_0000_0.png"
        results = run(pipeline_of(), [dicoms[0], picture])
        assert results[0].score == pytest.approx(results[1].score, abs=1e-5)
        assert results[0].header.patient_id == "PHANTOM_0000_0"


class TestLungsOfTheModel:
    """A model that segments the lungs itself, at the size of the segmenter, and by the same network."""

    @pytest.fixture(scope="class")
    def segmenting(self, tmp_path_factory, segmenter_path):
        class Network(nn.Module):
            def __init__(self):
                super().__init__()
                self.prepare, self.segmenter = RoiPreProcessor(32), load_segmenter(segmenter_path)

            def forward(self, images):
                gray = self.prepare(images).mean(1, keepdim=True)
                heat = self.segmenter(gray) * (gray + 1) / 2
                score = heat.mean((1, 2, 3))
                return score, score > 0.1, heat

        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tracing
            network = openvino.convert_model(Network().eval(), example_input=torch.rand(1, 3, 48, 40))
        for output, name in zip(network.outputs, ("pred_score", "pred_label", "anomaly_map"), strict=True):
            output.get_tensor().set_names({name})
        folder = tmp_path_factory.mktemp("segmenting")
        openvino.save_model(network, folder / "model.xml", compress_to_fp16=False)
        return ExportedModel(folder)

    def test_are_those_of_the_segmenter(self, segmenting, lungs, input_check, images, monkeypatch):
        other = ScreeningPipeline(segmenting, lungs, input_check)
        with monkeypatch.context() as patch:
            patch.setattr(segmenting, "segmenter_weights", "of another network")
            expected = run(ScreeningPipeline(segmenting, lungs, input_check), images[50:62])
        monkeypatch.setattr(lungs, "_network", None)  # not asked
        results = run(other, images[50:62])
        assert [result.refusals for result in results] == [result.refusals for result in expected]
        assert sum(result.score is not None for result in results) >= 8
        for found, one in zip(results, expected, strict=True):
            np.testing.assert_allclose(found.lungs, one.lungs, atol=1e-4)
            assert found.score == (None if one.score is None else pytest.approx(one.score, abs=1e-6))


class TestOneRead:
    @pytest.fixture
    def replaced_after(self, monkeypatch):
        """Put another file in the place of each one as soon as its bytes are read."""

        def replace_by(other):
            def read(path):
                content = read_content(path)
                shutil.copy(other, path)
                return content

            monkeypatch.setattr(pipeline_module, "read_content", read)

        return replace_by

    def test_a_file_that_is_replaced_meanwhile_is_what_was_read(self, pipeline_of, dicoms, tmp_path, replaced_after):
        pipeline = pipeline_of()
        pipeline.keep_datasets = True
        (expected,) = run(pipeline, dicoms[:1])
        path = Path(shutil.copy(dicoms[0], tmp_path / "replaced.dcm"))
        before = fingerprint_of(path)
        replaced_after(dicoms[1])
        (result,) = run(pipeline, [path])
        assert path.read_bytes() == dicoms[1].read_bytes()
        assert result.score == pytest.approx(expected.score, abs=1e-6)
        assert result.content == hashlib.sha256(dicoms[0].read_bytes()).hexdigest()
        assert result.fingerprint == before
        assert result.header.patient_id == str(result.dataset.PatientID) == "PHANTOM_0000_0"
        assert "PixelData" not in result.dataset

    def test_a_file_that_changes_during_the_read_is_tried_again(self, pipeline_of, images, tmp_path, monkeypatch):
        path, fstat, calls = Path(shutil.copy(images[0], tmp_path / "x.png")), os.fstat, []

        def appended(number):
            calls.append(number)
            if len(calls) == 2:
                path.write_bytes(path.read_bytes() + b"more")
            return fstat(number)

        with monkeypatch.context() as patch:
            patch.setattr(content_module.os, "fstat", appended)
            (result,) = run(pipeline_of(), [path])
        assert "changed while it was read" in result.refusals[0]
        assert (result.content, result.score) == ("", None)
        assert result.fingerprint != fingerprint_of(path)


class TestBatches:
    def sizes(self, pipeline, files):
        return [len(batch) for batch in pipeline(files)]

    @pytest.mark.parametrize(("most", "sizes"), [(1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (50, [7])])
    def test_bounded_by_number(self, pipeline_of, images, monkeypatch, most, sizes):
        monkeypatch.setattr(pipeline_module, "MAX_BATCH", most)
        assert self.sizes(pipeline_of(), images[:7]) == sizes

    @pytest.mark.parametrize(("pixels", "sizes"), [(1, [1] * 5), (2 * 32 * 32, [2, 2, 1]), (2 * 32 * 32 + 1, [3, 2])])
    def test_bounded_by_pixels(self, pipeline_of, images, monkeypatch, pixels, sizes):
        """Of images that are reduced to the 32 pixels of the model."""
        monkeypatch.setattr(pipeline_module, "MAX_PIXELS", pixels)
        assert self.sizes(pipeline_of(), images[:5]) == sizes

    def test_reads_no_more_ahead_than_threads_can(self, pipeline_of, images, monkeypatch):
        """Of an archive of any length a few images are in memory."""
        asked = []
        monkeypatch.setattr(os, "cpu_count", lambda: 2)
        monkeypatch.setattr(pipeline_module, "MAX_BATCH", 1)
        pipeline = pipeline_of(sources=("none",))  # refused by their headers: quick
        results = pipeline(asked.append(number) or images[0] for number in range(1000))
        for _ in range(10):
            next(results)
        results.close()
        assert 10 <= len(asked) <= 20

    def test_nothing(self, pipeline_of):
        assert run(pipeline_of(), []) == []


def test_sixteen_bits_are_read_as_in_the_calibration(pipeline_of, images, tmp_path):
    levels = np.asarray(Image.open(images[0]))
    Image.fromarray(levels.astype(np.uint16) * 16).save(tmp_path / "twelve.png")
    pipeline = pipeline_of()
    (expected,), (refused,) = run(pipeline, [images[0]]), run(pipeline, [tmp_path / "twelve.png"])
    assert "sixteen_bit_white has to be set" in refused.refusals[0]
    pipeline.sixteen_bit_white = 255 * 16
    (result,) = run(pipeline, [tmp_path / "twelve.png"])
    assert result.score == pytest.approx(expected.score, abs=1e-6)


class TestRefused:
    def test_empty(self, pipeline_of, tmp_path):
        (tmp_path / "file").touch()
        (result,) = run(pipeline_of(), [tmp_path / "file"])
        assert "empty file" in result.refusals[0]
        assert (result.fingerprint, result.content) == (NO_FINGERPRINT, "")  # it is tried again the next time

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"no image", "not an image"),
            (b"\x89PNG\r\n\x1a\n" + bytes(40), "not an image|damaged"),
            (bytes(128) + b"DICM" + bytes(40), "Rows (0028,0010)"),
        ],
    )
    def test_unreadable(self, pipeline_of, tmp_path, content, reason):
        path = tmp_path / "file"
        path.write_bytes(content)
        (result,) = run(pipeline_of(), [path])
        assert result.refusals[0].startswith("not readable as a frontal X-ray: ")
        assert any(part in result.refusals[0] for part in reason.split("|"))
        assert (result.score, result.height, result.display) == (None, None, None)
        assert (result.fingerprint, result.content) == (fingerprint_of(path), hashlib.sha256(content).hexdigest())

    def test_a_file_that_went_away(self, pipeline_of, tmp_path):
        (result,) = run(pipeline_of(), [tmp_path / "gone.png"])
        assert "cannot be opened" in result.refusals[0]
        assert (result.fingerprint, result.content) == (NO_FINGERPRINT, "")

    def test_a_truncated_one_among_good_ones(self, pipeline_of, images, tmp_path):
        cut = tmp_path / "cut.png"
        cut.write_bytes(images[1].read_bytes()[:800])
        results = run(pipeline_of(), [images[0], cut, images[2]])
        assert [result.score is None for result in results] == [False, True, False]
        assert "truncated or damaged" in results[1].refusals[0]

    @pytest.mark.parametrize("view", ["LL", "LATERAL", "RL"])
    def test_a_lateral_view(self, pipeline_of, edited, view):
        (result,) = run(pipeline_of(sources=(DICOM,)), [edited(ViewPosition=view)])
        assert result.refusals[0].startswith("not readable as a frontal X-ray: ")
        assert view in result.refusals[0]
        assert result.score is None

    @pytest.mark.parametrize(("age", "accepted"), [("017Y", False), ("018Y", True), ("080Y", True), ("081Y", False)])
    def test_ages(self, pipeline_of, edited, age, accepted):
        (result,) = run(pipeline_of(sources=(DICOM,), ages=(18, 80)), [edited(PatientAge=age)])
        expected = () if accepted else (f"age {int(age[:3])} outside the validated 18 to 80 years",)
        assert result.refusals == expected

    def test_an_unknown_age_is_accepted(self, pipeline_of, edited, images):
        for path in (edited(PatientAge=None), images[0]):
            (result,) = run(pipeline_of(sources=(DICOM, "picture"), ages=(18, 80)), [path])
            assert result.refusals == ()

    def test_a_source_that_was_never_validated(self, pipeline_of, dicoms):
        pipeline = pipeline_of(sources=("picture",))
        (result,) = run(pipeline, dicoms[:1])
        assert result.refusals == (f"never validated on this kind of source: {DICOM}",)
        pipeline.any_source = True
        (result,) = run(pipeline, dicoms[:1])
        assert result.refusals == ()
        assert result.score is not None

    def test_too_small(self, pipeline_of, images):
        (result,) = run(pipeline_of(least_side=65), images[:1])
        assert result.refusals == ("too small: 64 x 64 pixels, validated from 65",)
        (result,) = run(pipeline_of(least_side=64), images[:1])
        assert result.refusals == ()

    @pytest.mark.parametrize("any_source", [False, True])
    def test_for_its_quality(self, pipeline_of, images, tmp_path, any_source):
        Image.open(images[0]).filter(ImageFilter.GaussianBlur(2)).save(tmp_path / "blurred.png")
        pipeline = pipeline_of(sources=("picture",))
        pipeline.any_source = any_source
        (result,) = run(pipeline, [tmp_path / "blurred.png"])
        assert result.refusals == ("blurred: the lungs lack fine detail",)
        assert result.score is None

    def test_any_source_leaves_the_input_check_on(self, pipeline_of, images, tmp_path):
        Image.open(images[0]).rotate(180).save(tmp_path / "turned.png")
        pipeline = pipeline_of(sources=("DICOM DX, another",))
        pipeline.any_source = True
        (result,) = run(pipeline, [tmp_path / "turned.png"])
        assert "upside down" in result.refusals

    def test_by_the_input_check(self, pipeline_of, images, tmp_path):
        Image.open(images[0]).rotate(180).save(tmp_path / "turned.png")
        (result,) = run(pipeline_of(), [tmp_path / "turned.png"])
        assert "upside down" in result.refusals
        assert (result.score, result.height) == (None, 64)


class TestDisplayImage:
    @pytest.mark.parametrize(
        ("size", "expected"), [((64, 64), (64, 64)), ((1024, 512), (512, 256)), ((700, 3000), (119, 512))]
    )
    def test_size(self, size, expected):
        found = display_image(np.random.default_rng(0).random(size, np.float32))
        assert found.shape == expected
        assert 0 <= found.min() <= found.max() <= 1

    def test_a_small_one_is_the_image_itself(self, images):
        image = read_intensities(images[0])
        assert np.array_equal(display_image(image), image)
