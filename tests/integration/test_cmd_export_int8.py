"""`anomalib export --compression_type INT8...`: quantized where it is meant to be, smaller, nearly the same scores."""

from __future__ import annotations

import shutil

import numpy as np
import openvino
import pytest

from anomalib_cxr.data.reading.radiograph import read_radiograph
from anomalib_cxr.deploy.runtime import ExportedModel, read_threshold, write_threshold
from anomalib_cxr.errors import SettingError

KINDS = ["INT8", "INT8_PTQ"]
CALIBRATED = KINDS[1:]
CONVOLUTIONS = {"Convolution", "ConvolutionBackpropData"}


@pytest.fixture(scope="module")
def data(side_by_side_root):
    return ["--data", "anomalib_cxr.MontgomeryShenzhen", "--data.init_args.root", str(side_by_side_root)]


@pytest.fixture(scope="module")
def exported(trained, data, in_process, tmp_path_factory):
    """The folder of the model's two files, by the kind of compression."""
    folder = tmp_path_factory.mktemp("int8")

    def words_of(kind, *words):
        return ["export", *trained.model, "--export_type", "openvino", "--export_root", kind, *words]

    def export(kind, *words):
        in_process(folder, *words_of(kind, *words))
        return folder / kind / "weights" / "openvino"

    return {
        "float32": export("float32"),
        "INT8": export("INT8", "--compression_type", "INT8"),
        "INT8_PTQ": export("INT8_PTQ", *data, "--compression_type", "INT8_PTQ"),
    }


@pytest.fixture(scope="module")
def operations(exported):
    return {
        kind: openvino.Core().read_model(folder / "model.xml").get_ordered_ops() for kind, folder in exported.items()
    }


@pytest.fixture(scope="module")
def images(telling_images):
    return [read_radiograph(path)[None].numpy() for path in telling_images]


def scores(folder, images):
    model = ExportedModel(folder)
    return np.concatenate([model(image).score for image in images])


def distances(folder, images, state):
    """The distances of the codes, from what stands before the cut at 0 and 1."""
    network = openvino.Core().read_model(folder / "model.xml")
    waiting = [network.output("pred_score").get_node()]
    while waiting[0].get_type_name() != "Clamp":
        waiting += [side.get_node() for side in waiting.pop(0).input_values()]
    network.add_outputs([waiting[0].input_value(0)])
    model = openvino.Core().compile_model(network, "CPU")
    found = [float(model(image.repeat(3, axis=1))[len(network.outputs) - 1].squeeze()) for image in images]
    low, high, threshold = (
        float(state[f"post_processor.{name}"]) for name in ("image_min", "image_max", "_image_threshold")
    )
    return threshold + (np.array(found) - 0.5) * (high - low)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_integers(operations, exported, kind):
    weights = {each.get_friendly_name(): each for each in operations[kind] if each.get_type_name() == "Constant"}
    small = [each for each in weights.values() if each.get_element_type() == openvino.Type.i8]
    convolutions = [each for each in operations[kind] if each.get_type_name() in CONVOLUTIONS]
    assert len(small) == len(convolutions) > 0
    sizes = {name: (exported[name] / "model.bin").stat().st_size for name in ("float32", kind)}
    assert sizes[kind] < 0.35 * sizes["float32"]


@pytest.mark.parametrize("kind", CALIBRATED)
def test_each_convolution_but_those_into_a_code_takes_integers_and_nothing_else_does(operations, kind):
    def feeds(operation):
        return {reader.get_node().get_type_name() for reader in operation.output(0).get_target_inputs()}

    quantized = [each for each in operations[kind] if each.get_type_name() == "FakeQuantize"]
    assert quantized
    assert set.union(*map(feeds, quantized)) <= CONVOLUTIONS
    for each in operations[kind]:
        if each.get_type_name() in CONVOLUTIONS:
            into_a_code = each.output(0).get_partial_shape()[2].get_length() == 1
            assert (each.input_value(0).get_node().get_type_name() == "FakeQuantize") != into_a_code


@pytest.mark.parametrize("kind", KINDS)
def test_distances_are_near(exported, images, trained, kind):
    # Of the distances, not of the scores: after so short a training they all lie within a few hundredths.
    state = trained.state()["state_dict"]
    found, wanted = (distances(exported[each], images, state) for each in (kind, "float32"))
    # Noise makes two codes differ more: by up to 4 % with 4 channels and as few images to calibrate with.
    np.testing.assert_allclose(found, wanted, rtol=0.1)


@pytest.mark.parametrize("kind", CALIBRATED)
def test_a_threshold_is_written_into_it(exported, images, kind, tmp_path):
    copy = shutil.copytree(exported[kind], tmp_path / kind)
    before = scores(copy, images)
    threshold = float(np.median(before))
    write_threshold(copy / "model.xml", threshold)
    assert read_threshold(copy / "model.xml") == pytest.approx(threshold)
    model = ExportedModel(copy)
    found = [model(image) for image in images]
    np.testing.assert_array_equal(np.concatenate([each.score for each in found]), before)
    np.testing.assert_array_equal(np.concatenate([each.label for each in found]), before >= np.float32(threshold))
    types = [each.get_type_name() for each in openvino.Core().read_model(copy / "model.xml").get_ops()]
    assert types.count("FakeQuantize") > 0


@pytest.mark.parametrize("kind", CALIBRATED)
def test_without_data_it_is_refused_and_nothing_is_left(in_process, trained, tmp_path, kind):
    words = ["export", *trained.model, "--export_type", "openvino", "--export_root", tmp_path / "none"]
    with pytest.raises(SettingError, match=r"(?s)no data.*--config configs/data"):
        in_process(tmp_path, *words, "--compression_type", kind)
    assert not [path for path in (tmp_path / "none").rglob("*") if path.is_file()]


def test_accuracy_aware_quantization_is_refused(in_process, trained, data, tmp_path):
    words = ["export", *trained.model, "--export_type", "openvino", "--export_root", tmp_path / "none"]
    with pytest.raises(SettingError, match="INT8_PTQ"):
        in_process(tmp_path, *words, *data, "--compression_type", "INT8_ACQ")
