"""From a grid to its runs."""

from __future__ import annotations

import pytest
from jsonargparse.typing import Path_fr

from anomalib_cxr.benchmark.plan.grid import DataConfig, Grid, SystemConfig
from anomalib_cxr.benchmark.plan.resolve import (
    check_unchanged,
    choose_systems,
    resolve_grid,
)
from anomalib_cxr.errors import SettingError

MODEL = """
model:
  class_path: anomalib_cxr.RoiSureGanomaly
  init_args: {image_size: 64, reconstruction: l1, target: image}
trainer:
  max_epochs: 70
  callbacks: [{class_path: anomalib_cxr.TrainingReport}]
"""
PADIM = {"class_path": "anomalib.models.Padim", "init_args": {"pre_trained": False}}
PHANTOMS = DataConfig(data={"class_path": "anomalib_cxr.ChestPhantom"})


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.yaml"
    path.write_text(MODEL)
    return Path_fr(path)


def grid(systems, data=None, **changes):
    return Grid(systems, data or {"phantoms": PHANTOMS}, **changes)


class TestRuns:
    def test_one_for_each_system_data_split_and_seed(self, file):
        systems = {"a": SystemConfig(config=file), "b": SystemConfig(model=PADIM)}
        runs = resolve_grid(grid(systems, seeds=(3, 4), splits=(0, 1)))
        assert len(runs) == len({run.folder for run in runs}) == 8
        assert {run.folder.as_posix() for run in runs} >= {
            "runs/phantoms/b/split1-seed4",
            "runs/phantoms/a/split0-seed3",
        }
        assert {run.settings["data"]["init_args"]["seed"] for run in runs if run.split == 1} == {1}
        ours = [run for run in runs if run.system == "a"]
        assert [run.settings["model"]["init_args"]["seed"] for run in ours] == [run.seed for run in ours]

    def test_own_settings_before_those_of_the_file(self, file):
        system = SystemConfig(config=file, model={"init_args": {"image_size": 32}}, trainer={"max_epochs": 5})
        (run,) = resolve_grid(grid({"a": system}, trainer={"max_epochs": 9, "accelerator": "cpu"}))
        arguments = run.settings["model"]["init_args"]
        assert (arguments["image_size"], arguments["reconstruction"]) == (32, "l1")
        assert run.settings["trainer"] == {"max_epochs": 5, "accelerator": "cpu"}

    def test_the_benchmarks_trainer_before_that_of_the_file(self, file):
        (run,) = resolve_grid(grid({"a": SystemConfig(config=file)}, trainer={"max_epochs": 9}))
        assert run.settings["trainer"] == {"max_epochs": 9}

    def test_a_classs_settings_on_some_data_only_where_it_has_them(self, file):
        noisy = DataConfig(data={"class_path": "anomalib_cxr.ChestPhantom"}, model={"sure": {"sigma": 0.2}})
        runs = resolve_grid(grid({"a": SystemConfig(config=file), "b": SystemConfig(model=PADIM)}, {"noisy": noisy}))
        assert runs[0].settings["model"]["init_args"]["sure"] == {"sigma": 0.2}
        assert "sure" not in runs[1].settings["model"]["init_args"]

    def test_settings_of_one_system_on_some_data(self, file):
        noise = {"sure": {"sigma": 0.2, "gain": 0.1}}
        noisy = DataConfig(data=PHANTOMS.data, model=noise, systems={"a": {"sure": {"sigma": 0.3}}})
        first, second = resolve_grid(
            grid({"a": SystemConfig(config=file), "b": SystemConfig(config=file)}, {"noisy": noisy})
        )
        assert first.settings["model"]["init_args"]["sure"] == {"sigma": 0.3, "gain": 0.1}
        assert second.settings["model"]["init_args"]["sure"] == {"sigma": 0.2, "gain": 0.1}

    def test_settings_of_the_data_for_one_system(self, file):
        systems = {
            "a": SystemConfig(config=file, data={"train_batch_size": 64, "unknown_here": 1}),
            "b": SystemConfig(config=file),
        }
        first, second = (run.settings["data"]["init_args"] for run in resolve_grid(grid(systems)))
        assert first["train_batch_size"] == 64
        assert "train_batch_size" not in second
        assert "unknown_here" not in first

    def test_exposure_only_where_requested(self, file):
        data = {"with": DataConfig(data=PHANTOMS.data, exposure=True), "without": PHANTOMS}
        runs = resolve_grid(grid({"a": SystemConfig(config=file)}, data))
        assert [run.settings["exposure"] for run in runs] == [True, False]

    def test_no_pictures_and_no_metrics_of_their_own(self, file):
        (run,) = resolve_grid(grid({"a": SystemConfig(config=file)}))
        assert run.settings["model"]["init_args"]["visualizer"] is False
        assert run.settings["model"]["init_args"]["evaluator"] is False


class TestRefusals:
    def test_all_that_is_wrong_at_once(self, file):
        systems = {
            "a": SystemConfig(config=file, model={"init_args": {"immage_size": 3}}),
            "b": SystemConfig(model={"class_path": "anomalib_cxr.RoiSure"}),
            "c": SystemConfig(),
            "d": SystemConfig(config=file, trainer={"max_epoch": 3}),
            "e": SystemConfig(config=file, model={"args": {}}),
        }
        with pytest.raises(SettingError, match="nothing was run") as raised:
            resolve_grid(
                grid(systems, {"x/y": PHANTOMS, "z": DataConfig(data=PHANTOMS.data, systems={"aa": {}})}, seeds=())
            )
        message = str(raised.value)
        told = (
            "immage_size",
            "class anomalib_cxr.RoiSure\n",
            "systems.c without",
            "max_epoch",
            "model.args",
            "data.x/y",
            "z.systems.aa",
        )
        assert [found for found in told if found not in message] == []
        assert "seeds is empty" in message
        assert "one of image_size" in message

    def test_values_of_the_wrong_type(self, file):
        with pytest.raises(SettingError, match="a on phantoms"):
            resolve_grid(grid({"a": SystemConfig(config=file, model={"init_args": {"sure": {"sigma": "much"}}})}))

    def test_splits_of_data_without_a_seed(self, file):
        folder = DataConfig(data={"class_path": "anomalib.data.PredictDataset"})
        with pytest.raises(SettingError, match="AnomalibDataModule"):
            resolve_grid(grid({"a": SystemConfig(config=file)}, {"folder": folder}))

    @pytest.mark.parametrize(
        ("system", "found", "expected"),
        [
            (
                {"model": {"class_path": "anomalib_cxr.ChestPhantom"}},
                "class anomalib_cxr.ChestPhantom",
                "a subclass of Ano",
            ),
            ({"model": {"class_path": "anomalib_cxr.RoiSureGanomalie"}}, "Ganomalie", "anomalib_cxr.RoiSureGanomaly"),
            ({"trainer": {"callbacks": []}}, "systems.a.trainer.callbacks", "does not set itself"),
            ({"model": {"init_args": {"sure": {"sigmma": 0.1}}}}, "init_args.sure.sigmma", "one of sure.sigma"),
        ],
    )
    def test_found_and_expected(self, file, system, found, expected):
        config = {} if "class_path" in system.get("model", {}) else {"config": file}
        with pytest.raises(SettingError) as raised:
            resolve_grid(grid({"a": SystemConfig(**config, **system)}))
        assert found in raised.value.found
        assert expected in raised.value.expected

    def test_an_error_of_all_systems_is_told_once(self, file):
        systems = {name: SystemConfig(config=file) for name in "ab"}
        with pytest.raises(SettingError) as raised:
            resolve_grid(grid(systems, trainer={"max_epoch": 3}))
        assert raised.value.found.split() == ["trainer.max_epoch"]


class TestOtherSettings:
    def test_the_same_is_welcome(self, tmp_path):
        check_unchanged({"a": ({"model": {"x": 1}}, {"model": {"x": 1}})}, tmp_path)

    def test_each_difference_is_named(self, tmp_path):
        found = {"a on b": ({"model": {"x": 1, "y": 2}}, {"model": {"x": 3, "y": 2}}), "c on d": ({"t": 1}, {})}
        with pytest.raises(SettingError, match="2 finished runs of another configuration") as raised:
            check_unchanged(found, tmp_path)
        assert "a on b: model.x = 1, planned is 3" in str(raised.value)
        assert "c on d: t = 1, planned is None" in str(raised.value)


class TestChooseSystems:
    @pytest.fixture
    def three(self):
        data = DataConfig(data=PHANTOMS.data, systems={"a": {"init_args": {}}, "c": {"init_args": {}}})
        return grid({name: SystemConfig(model=PADIM) for name in "abc"}, {"phantoms": data})

    def test_some_with_what_the_data_say_of_them(self, three):
        chosen = choose_systems(three, ("c", "b"))
        assert list(chosen.systems) == ["b", "c"]
        assert list(chosen.data["phantoms"].systems) == ["c"]
        assert {run.system for run in resolve_grid(chosen)} == {"b", "c"}

    def test_none_chosen_are_all(self, three):
        assert choose_systems(three, ()) is three

    def test_unknown_ones_are_named(self, three):
        with pytest.raises(SettingError, match=r"(?s)--only d.*--only e"):
            choose_systems(three, ("a", "d", "e"))

    def test_a_mistake_in_the_data_is_still_told(self, three):
        wrong = grid(three.systems, {"phantoms": DataConfig(data=PHANTOMS.data, systems={"z": {}})})
        with pytest.raises(SettingError, match=r"data.phantoms.systems.z"):
            resolve_grid(choose_systems(wrong, ("a",)))
