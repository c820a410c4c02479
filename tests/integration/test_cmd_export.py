"""`anomalib export`: the exported model scores as the checkpoint does, with images of any size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from anomalib.deploy import OpenVINOInferencer
from PIL import Image

from anomalib_cxr import RoiSureGanomaly
from anomalib_cxr.data.reading.radiograph import read_radiograph

SIZES = ["native", 256, 512]


@pytest.fixture(scope="module")
def export(command, trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    words = ["export", *trained.model, "--export_type", "openvino", "--export_root", "exported"]
    code, output = command(folder, "anomalib", *words)
    assert code == 0, output
    return folder / "exported"


@pytest.fixture(scope="module")
def inferencer(export, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("cache"))
        path = export / "weights" / "openvino" / "model.xml"
        return OpenVINOInferencer(path, device="CPU", config={"INFERENCE_PRECISION_HINT": "f32"})


@pytest.fixture(scope="module")
def checkpoint(trained):
    return RoiSureGanomaly.load_from_checkpoint(trained.checkpoint, visualizer=False, map_location="cpu").eval()


@pytest.fixture(scope="module")
def images(tmp_path_factory, telling_images):
    """Images in each size, with 8 and with 16 bits."""
    folder = tmp_path_factory.mktemp("images")
    for original in telling_images[:3]:
        gray = Image.open(original).convert("L")
        for size in SIZES:
            sized = gray if size == "native" else gray.resize((size, size), Image.Resampling.BICUBIC)
            sized.save(folder / f"{original.stem}.{size}.8.png")
            Image.fromarray(np.asarray(sized, dtype=np.uint16) * 257).save(folder / f"{original.stem}.{size}.16.png")
    return folder


def expected(checkpoint, path):
    with torch.inference_mode():
        return checkpoint(read_radiograph(path).expand(1, 3, -1, -1))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bits", [8, 16])
def test_openvino_scores_as_the_checkpoint(inferencer, checkpoint, images, size, bits):
    paths = sorted(images.glob(f"*.{size}.{bits}.png"))
    assert paths
    for path in paths:
        given = path if bits == 8 else read_radiograph(path).expand(3, -1, -1)
        found, wanted = inferencer.predict(given), expected(checkpoint, path)
        assert float(found.pred_score[0]) == pytest.approx(float(wanted.pred_score), rel=1e-4)
        assert bool(found.pred_label[0]) == bool(wanted.pred_label)
        np.testing.assert_allclose(found.anomaly_map, wanted.anomaly_map.reshape(found.anomaly_map.shape), atol=1e-4)


def test_nothing_unfinished_is_left(export):
    files = {path.relative_to(export).as_posix() for path in export.rglob("*") if path.is_file()}
    assert files == {"weights/openvino/model.xml", "weights/openvino/model.bin"}


def test_onnx_scores_as_the_checkpoint(in_process, trained, checkpoint, images, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    in_process(tmp_path, "export", *trained.model, "--export_type", "onnx", "--export_root", tmp_path)
    session = onnxruntime.InferenceSession(tmp_path / "weights" / "onnx" / "model.onnx")
    names = [output.name for output in session.get_outputs()]
    for path in sorted(images.glob("*.16.png")):
        image = read_radiograph(path).expand(1, 3, -1, -1)
        found = dict(zip(names, session.run(None, {"input": image.numpy()}), strict=True))
        wanted = expected(checkpoint, path)
        assert float(found["pred_score"].item()) == pytest.approx(float(wanted.pred_score), rel=1e-4)
