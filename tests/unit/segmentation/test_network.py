"""The segmenter's network: sizes, its file, and what an exported graph says."""

from __future__ import annotations

import json
import pickle

import onnxruntime
import openvino
import pytest
import torch
from torch import nn
from torchvision.transforms.v2.functional import resize

from anomalib_cxr.errors import SegmenterError, SettingError
from anomalib_cxr.segmentation.network import LungSegmenter, load_segmenter, save_segmenter

WIDTHS = (4, 4, 8, 8, 16)


@pytest.fixture
def segmenter():
    torch.manual_seed(0)
    return LungSegmenter(32, WIDTHS).eval()


@pytest.fixture
def path(segmenter, tmp_path):
    save_segmenter(segmenter, tmp_path / "new" / "segmenter.pt", {"seed": 3})
    return tmp_path / "new" / "segmenter.pt"


class TestForward:
    @pytest.mark.parametrize("size", [(32, 32), (50, 40), (17, 90)])
    def test_probability_at_the_size_of_the_image(self, segmenter, size):
        probability = segmenter(torch.rand(2, 1, *size) * 2 - 1)
        assert probability.shape == (2, 1, *size)
        assert -1e-6 <= probability.min() < probability.max() <= 1 + 1e-6

    def test_against_the_resizing_of_torchvision(self, segmenter):
        gray = torch.rand(2, 1, 50, 90) * 2 - 1
        small = segmenter.unet(resize(gray, [32, 32], antialias=True)).sigmoid()
        torch.testing.assert_close(segmenter(gray), resize(small, [50, 90], antialias=True), atol=1e-4, rtol=0)

    def test_an_image_is_judged_by_itself_also_in_training(self, segmenter):
        segmenter.train()
        gray = torch.rand(3, 1, 40, 40) * 2 - 1
        torch.testing.assert_close(segmenter(gray)[1:2], segmenter(gray[1:2]))

    def test_gradients_reach_every_weight(self, segmenter):
        segmenter(torch.rand(2, 1, 32, 32)).mean().backward()
        assert all(weight.grad.abs().sum() > 0 for name, weight in segmenter.named_parameters() if "weight" in name)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"image_size": 40}, r"image_size = 40(?s:.*)a multiple of 16, at least 32"),
        ({"image_size": 16}, r"image_size = 16"),
        ({"widths": (4, 4)}, r"widths = \(4, 4\)(?s:.*)5 positive numbers"),
        ({"widths": (0, 4, 8, 8, 16)}, r"widths = \(0,"),
    ],
)
def test_refused_settings(settings, named):
    with pytest.raises(SettingError, match=named):
        LungSegmenter(**settings)


class WithinAModel(nn.Module):
    """A larger graph, in which the segmenter cuts out what a model sees."""

    def __init__(self, segmenter):
        super().__init__()
        self.segmenter = segmenter

    def forward(self, image):
        gray = image.mean(dim=1, keepdim=True)
        return gray * self.segmenter(gray)


@pytest.mark.slow
class TestExport:
    sizes = ((1, 3, 32, 32), (3, 3, 50, 90), (2, 3, 33, 20))

    @pytest.fixture(scope="class")
    def model(self):
        torch.manual_seed(0)
        return WithinAModel(LungSegmenter(32, WIDTHS)).eval()

    @pytest.fixture(scope="class")
    def onnx(self, model, tmp_path_factory):
        """An ONNX file by the exporter that anomalib uses, with batch and size left open."""
        path = tmp_path_factory.mktemp("export") / "model.onnx"
        free = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
        image = torch.rand(2, 3, 40, 48)
        torch.onnx.export(model, (image,), path, dynamo=True, input_names=["input"], dynamic_shapes=(free,))
        return path

    def compare(self, model, run):
        for size in self.sizes:
            image = torch.rand(size) * 2 - 1
            torch.testing.assert_close(torch.from_numpy(run(image.numpy())), model(image), atol=1e-5, rtol=0)

    def test_onnx(self, model, onnx):
        session = onnxruntime.InferenceSession(onnx)
        self.compare(model, lambda image: session.run(None, {"input": image})[0])

    def test_openvino(self, model, onnx):
        compiled = openvino.Core().compile_model(onnx, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        self.compare(model, lambda image: compiled(image)[0])


class TestFile:
    def test_comes_back_as_it_was(self, segmenter, path):
        loaded = load_segmenter(path)
        gray = torch.rand(1, 1, 40, 40)
        assert not loaded.training
        assert loaded.settings == segmenter.settings
        torch.testing.assert_close(loaded(gray), segmenter(gray), atol=0, rtol=0)
        assert [each.name for each in path.parent.iterdir()] == ["segmenter.pt"]

    def test_holds_its_record(self, path):
        assert json.loads(torch.load(path, weights_only=True)["record"]) == {"seed": 3}

    def test_missing(self, tmp_path):
        with pytest.raises(SegmenterError, match=r"nowhere.pt: cannot be read: No such file(?s:.*)segment train"):
            load_segmenter(tmp_path / "nowhere.pt")

    def test_folder(self, tmp_path):
        with pytest.raises(SegmenterError, match="cannot be read: Is a directory"):
            load_segmenter(tmp_path)

    @pytest.mark.parametrize("length", [0, 100, -200])
    def test_cut_off(self, path, length):
        path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(SegmenterError, match="damaged, or not a file of weights"):
            load_segmenter(path)

    @pytest.mark.parametrize(
        "content", [b"image,source\n", b"\x89PNG\r\n\x1a\n" + bytes(64), pickle.dumps(print, protocol=2)]
    )
    def test_other_file(self, path, content):
        path.write_bytes(content)
        with pytest.raises(SegmenterError, match="damaged, or not a file of weights"):
            load_segmenter(path)

    @pytest.mark.parametrize("content", [{"weight": torch.zeros(2)}, torch.zeros(2), {"format": None}])
    def test_weights_of_something_else(self, path, content):
        torch.save(content, path)
        with pytest.raises(SegmenterError, match="weights of another kind of network"):
            load_segmenter(path)

    def test_code_is_not_executed(self, path, tmp_path):
        class Trap:
            def __reduce__(self):
                return (tmp_path.joinpath("sprung").touch, ())

        torch.save({"format": Trap()}, path)
        with pytest.raises(SegmenterError, match="damaged, or not a file of weights"):
            load_segmenter(path)
        assert not (tmp_path / "sprung").exists()

    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            ({"format": "anomalib_cxr.LungSegmenter 9"}, "format 'anomalib_cxr.LungSegmenter 9'"),
            ({"settings": {"image_size": 32, "widths": (4, 4, 8, 8, 8)}}, "do not match"),
            ({"settings": {"image_size": 33}}, "do not match"),
            ({"weights": {}}, "do not match"),
        ],
    )
    def test_inconsistent(self, path, changes, named):
        torch.save(torch.load(path, weights_only=True) | changes, path)
        with pytest.raises(SegmenterError, match=named):
            load_segmenter(path)

    def test_not_finite(self, segmenter, path):
        next(segmenter.parameters()).data.fill_(float("nan"))
        save_segmenter(segmenter, path)
        with pytest.raises(SegmenterError, match="not finite"):
            load_segmenter(path)
