"""What a grid may name."""

from __future__ import annotations

import pytest

from anomalib_cxr.benchmark.plan.checks import Refusals, arguments_of, import_class, make
from anomalib_cxr.data.datamodules.chest_phantom import ChestPhantom
from anomalib_cxr.errors import SettingError
from anomalib_cxr.models import RoiSureGanomaly


@pytest.fixture
def refusals():
    return Refusals()


def told(refusals):
    with pytest.raises(SettingError) as raised:
        refusals.raise_if_any()
    return str(raised.value)


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
        assert arguments_of("nowhere.Model") == arguments_of(None) == frozenset()


class TestRefusals:
    def test_nothing_noted_nothing_raised(self, refusals):
        refusals.check_class("anomalib_cxr.RoiSureGanomaly", {"sigma": 0.1}, "model", "systems.a.model")
        refusals.check_trainer({"max_epochs": 1}, "trainer", ("callbacks",))
        refusals.check_name("systems.a")
        refusals.raise_if_any()

    def test_unknown_class_with_the_nearest_names(self, refusals):
        refusals.check_class("anomalib_cxr.RoiSureGanomalie", {}, "model", "systems.a.model")
        message = told(refusals)
        assert "systems.a.model: class anomalib_cxr.RoiSureGanomalie" in message
        assert "anomalib_cxr.RoiSureGanomaly" in message

    def test_class_of_another_kind(self, refusals):
        refusals.check_class("anomalib_cxr.ChestPhantom", {}, "model", "systems.a.model")
        assert "a subclass of AnomalibModule" in told(refusals)

    def test_unknown_argument_with_the_nearest_names(self, refusals):
        refusals.check_class("anomalib_cxr.RoiSureGanomaly", {"sigmma": 0.1}, "model", "systems.a.model")
        message = told(refusals)
        assert "systems.a.model.init_args.sigmma" in message
        assert "one of sigma" in message

    def test_trainer(self, refusals):
        refusals.check_trainer({"max_epoch": 1, "callbacks": []}, "trainer", ("callbacks",))
        message = told(refusals)
        assert "trainer.max_epoch" in message
        assert "max_epochs" in message
        assert "trainer.callbacks" in message

    def test_all_at_once_and_each_once(self, refusals):
        for _ in range(2):
            refusals.check_class("anomalib_cxr.RoiSureGanomaly", {"a_b": 1}, "model", "systems.a.model")
        refusals.check_name("systems.a b")
        message = told(refusals)
        assert message.count("init_args.a_b") == 1
        assert "systems.a b" in message
        assert "nothing was run" in message


def settings(**changes):
    phantoms = {"class_path": "anomalib_cxr.ChestPhantom", "init_args": {"size": 64}}
    model = {"class_path": "anomalib_cxr.RoiSureGanomaly", "init_args": {"image_size": 32, "n_features": 4}}
    return {"model": model, "data": phantoms, "shifts": {}, **changes}


class TestMake:
    def test_makes_what_the_settings_name(self):
        resize = {"class_path": "torchvision.transforms.v2.Resize", "init_args": {"size": [32, 32]}}
        made = make(settings(shifts={"small": resize}))
        assert isinstance(made.model, RoiSureGanomaly)
        assert made.model.hparams["n_features"] == 4
        assert isinstance(made.data, ChestPhantom)
        assert list(made.shifts["small"].size) == [32, 32]

    def test_values_of_another_type_are_noted(self, refusals):
        wrong = {"class_path": "anomalib_cxr.RoiSureGanomaly", "init_args": {"image_size": "large"}}
        refusals.check_values(settings(model=wrong), "a on b")
        assert "a on b" in told(refusals)
