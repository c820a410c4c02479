"""Classes that a configuration names."""

from __future__ import annotations

import pytest

from anomalib_cxr.benchmark.plan.classes import arguments_of, import_class, instantiate
from anomalib_cxr.data.datamodules.chest_phantom import ChestPhantom
from anomalib_cxr.models import RoiSureGanomaly


class TestImportClass:
    def test_any_importable_class(self):
        assert import_class("anomalib_cxr.RoiSureGanomaly") is RoiSureGanomaly
        assert import_class("collections.OrderedDict").__name__ == "OrderedDict"

    @pytest.mark.parametrize("path", ["nowhere.Model", "anomalib_cxr.Nothing", "Model", "anomalib_cxr.data"])
    def test_none_of_what_is_no_class(self, path):
        assert import_class(path) is None


class TestArguments:
    def test_of_a_class_and_of_the_base_that_it_hands_them_on_to(self):
        assert {"size", "root", "train_batch_size", "seed"} <= arguments_of("anomalib_cxr.ChestPhantom")
        assert "image_size" not in arguments_of("anomalib_cxr.ChestPhantom")

    def test_none_of_an_unknown_class(self):
        assert arguments_of("nowhere.Model") == frozenset()


def settings(**changes):
    phantoms = {"class_path": "anomalib_cxr.ChestPhantom", "init_args": {"size": 64}}
    model = {
        "class_path": "anomalib_cxr.RoiSureGanomaly",
        "init_args": {"image_size": 32, "network": {"n_features": 4}},
    }
    return {"model": model, "data": phantoms, "shifts": {}, **changes}


class TestInstantiate:
    def test_creates_the_named_objects(self):
        resize = {"class_path": "torchvision.transforms.v2.Resize", "init_args": {"size": [32, 32]}}
        objects = instantiate(settings(shifts={"small": resize}))
        assert isinstance(objects.model, RoiSureGanomaly)
        assert objects.model.hparams["network"]["n_features"] == 4
        assert isinstance(objects.data, ChestPhantom)
        assert list(objects.shifts["small"].size) == [32, 32]
