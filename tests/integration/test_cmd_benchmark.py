"""`anomalib-cxr benchmark`: all systems on phantoms, its report, and every configuration in `configs/benchmark`."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import pandas as pd
import pytest
import yaml

from anomalib_cxr.benchmark.plan.grid import Grid
from anomalib_cxr.benchmark.plan.resolve import resolve_grid
from anomalib_cxr.cli import _parser, main
from anomalib_cxr.data.phantom.files import write_phantoms
from anomalib_cxr.data.sources.split_table import read_split_table

pytestmark = pytest.mark.slow

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SMOKE = CONFIGS / "benchmark" / "smoke.yaml"
SYSTEMS = yaml.safe_load(SMOKE.read_text())["systems"]
LARGE = sorted(set(CONFIGS.glob("benchmark/*.yaml")) - {SMOKE})
BASELINES = [CONFIGS / "benchmark" / f"{name}.yaml" for name in ("baselines", "baselines_nih")]
"""Of anomalib's models alone, each of which test_cmd_configs trains."""
SMALL_ATLAS = {"n_folds": 2, "n_bank": 16, "n_components": 5, "n_textures": 5}
PHANTOMS = {"root": "phantoms", "n_normal": 20, "n_sick": 10, "size": 32}


def small_system(name):
    """Return a system of `configs/model` at the size of a test."""
    sizes = {"image_size": 32, "network": {"n_features": 4}}
    others = {"fanogan": {"image_size": 32, "n_features": 4, "gan_epochs": 1}, "lung_atlas": SMALL_ATLAS}
    return {"config": str(CONFIGS / "model" / f"{name}.yaml"), "model": {"init_args": others.get(name, sizes)}}


def records(folder):
    return {path.parent: json.loads(path.read_text()) for path in folder.glob("runs/*/*/*/run.json")}


class TestSmoke:
    """Every system, through the command that a user types."""

    @pytest.fixture(scope="class")
    def started_in(self, tmp_path_factory):
        return tmp_path_factory.mktemp("smoke")

    @pytest.fixture(scope="class")
    def answer(self, command, started_in):
        return command(started_in, "anomalib-cxr", "benchmark", "--config", SMOKE, timeout=580)

    @pytest.fixture(scope="class")
    def folder(self, answer, started_in):
        assert answer.code == 0, answer.output
        return started_in / "results" / "benchmark" / "smoke"

    def test_every_model_without_weights_from_the_internet_is_among_the_systems(self):
        ours = {Path(system["config"]).stem for system in SYSTEMS.values()}
        models = {path.stem: yaml.safe_load(path.read_text())["model"] for path in CONFIGS.glob("model/**/*.yaml")}
        from_files = {name for name, model in models.items() if "baselines." in model["class_path"]}
        of_half_a_minute = {"fastflow_untrained", "cflow_untrained"}  # each trains in test_cmd_configs
        assert ours == set(models) - {"patchcore", "padim", "dinomaly"} - from_files - of_half_a_minute

    def test_every_run_is_done(self, folder):
        assert {record["system"]: record["status"] for record in records(folder).values()} == dict.fromkeys(
            SYSTEMS, "done"
        )

    def test_report_has_every_system_and_what_was_reported(self, folder, answer):
        assert "report.html" in answer.output
        for name in ("report.html", "report.md"):
            text = (folder / name).read_text()
            assert [system for system in SYSTEMS if system not in text] == []
            assert "0.8987" in text
            assert "not a medical device" in text.lower()
        assert set(pd.read_csv(folder / "results.csv").system) == set(SYSTEMS)
        assert {"auroc", "average_precision"} <= set(pd.read_csv(folder / "results.csv").metric)

    def test_systems_learned_from_the_same_images(self, folder):
        tables = [pd.read_csv(run / "scores.csv") for run in records(folder)]
        images = {
            tuple(sorted(table.image[(table.subset == "test") & table["shift"].isna()].unique())) for table in tables
        }
        assert len(images) == 1

    def test_started_again_it_only_reports(self, folder, command, started_in):
        before = {run: (run / "run.json").stat().st_mtime_ns for run in records(folder)}
        code, output = command(started_in, "anomalib-cxr", "benchmark", "--config", SMOKE, timeout=580)
        assert code == 0, output
        assert f"{len(SYSTEMS)} runs, 0 of them to be done" in output
        assert {run: (run / "run.json").stat().st_mtime_ns for run in records(folder)} == before


def test_some_of_the_systems(command, tmp_path):
    systems = {name: small_system(name) for name in ("roi_l2", "ganomaly")}
    data = {"config": str(CONFIGS / "data/chest_phantom.yaml"), "data": {"init_args": PHANTOMS}}
    grid = {"systems": systems, "data": {"phantoms": data}, "trainer": {"max_epochs": 1, "accelerator": "cpu"}}
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(grid))
    words = ("anomalib-cxr", "benchmark", "--config", "grid.yaml", "--output", "out", "--only")
    code, output = command(tmp_path, *words, "roi_l3")
    assert code != 0
    assert "--only roi_l3" in output
    assert "roi_l2" in output
    code, output = command(tmp_path, *words, "ganomaly", timeout=300)
    assert code == 0, output
    assert [record["system"] for record in records(tmp_path / "out").values()] == ["ganomaly"]


class TestKilled:
    def test_finished_runs_are_kept_and_the_rest_is_done(self, interrupted, command, tmp_path, phantom_root):
        grid = {
            "systems": {"l2": small_system("roi_l2")},
            "data": {"phantoms": {"config": str(CONFIGS / "data/chest_phantom.yaml"), "data": {"init_args": PHANTOMS}}},
            "seeds": [0, 1, 2],
            "trainer": {"max_epochs": 1, "accelerator": "cpu"},
        }
        (tmp_path / "grid.yaml").write_text(yaml.safe_dump(grid))
        words = ("anomalib-cxr", "benchmark", "--config", "grid.yaml", "--output", "out")
        interrupted(tmp_path, *words, seen=lambda: len(records(tmp_path / "out")) >= 1)
        first = {run: (run / "scores.csv").read_bytes() for run in records(tmp_path / "out")}
        assert 1 <= len(first) < 3
        code, text = command(tmp_path, *words, timeout=580)
        assert code == 0, text
        assert len(records(tmp_path / "out")) == 3
        assert {run: (run / "scores.csv").read_bytes() for run in first} == first


class TestBadGrid:
    def test_unknown_names_are_refused_before_the_first_run(self, command, tmp_path):
        grid = {
            "output": "out",
            "systems": {
                "a": {"model": {"class_path": "anomalib_cxr.RoiSureGanomali"}},
                "b": {"model": {"class_path": "anomalib_cxr.RoiSureGanomaly", "init_args": {"image_sise": 32}}},
            },
            "data": {"c": {"data": {"class_path": "anomalib_cxr.ChestPhantom"}}},
        }
        (tmp_path / "grid.yaml").write_text(yaml.safe_dump(grid))
        code, output = command(tmp_path, "anomalib-cxr", "benchmark", "--config", "grid.yaml")
        assert code == 1
        assert "RoiSureGanomaly" in output
        assert "image_size" in output
        assert not (tmp_path / "out").exists()

    def test_one_class_in_a_test_set_is_said(self, monkeypatch, capsys, tmp_path):
        """Phantoms without a sick one."""
        monkeypatch.chdir(tmp_path)
        grid = {
            "systems": {"a": small_system("roi_l2")},
            "data": {"c": {"data": {"class_path": "anomalib_cxr.ChestPhantom", "init_args": PHANTOMS | {"n_sick": 0}}}},
            "trainer": {"max_epochs": 1, "accelerator": "cpu"},
        }
        (tmp_path / "grid.yaml").write_text(yaml.safe_dump(grid))
        with pytest.raises(SystemExit):
            main(["benchmark", "--config", "grid.yaml", "--output", "out"])
        assert "0 sick" in capsys.readouterr().err


class TestConfigurations:
    """The large grids: all of each resolves, and its first and last system and data run at a size that a test bears."""

    @pytest.fixture
    def small_data(self, side_by_side_root, nih_root, detection_data, tmp_path, request):
        if request.node.callspec.params["file"].stem.startswith("hospital"):  # LungAtlas trains on one of the two alone
            for prefix in ("CHNCXR", "MCUCXR"):
                write_phantoms(tmp_path / "two" / prefix, prefix=prefix, n_normal=64, n_sick=4, size=32)
            side_by_side_root = tmp_path / "two"
        nih = {"root": str(nih_root), "n_train": 20, "n_val": 2, "n_test": 4}
        official = {"root": str(side_by_side_root)}
        by_table = {"montgomery_shenzhen_detection": detection_data}
        own = {"root": str(tmp_path / "own"), "table": str(tmp_path / "own.csv"), "masks": "optional"}
        if request.node.callspec.params["file"].stem in {"own_hospital", "carried"}:
            write_own(tmp_path)
        phantoms = PHANTOMS | {"root": str(tmp_path / "phantoms")}
        by_config = {"montgomery_shenzhen": official, "nih_chest_xray14": nih, "folder": own, "chest_phantom": phantoms}
        return {**by_config, **by_table}

    @pytest.mark.parametrize("file", [file for file in LARGE if file not in BASELINES], ids=lambda file: file.stem)
    def test_runs_small(self, file, monkeypatch, tmp_path, small_data):
        monkeypatch.chdir(tmp_path)
        grid = shrunk(yaml.safe_load(file.read_text()), small_data)
        (tmp_path / "grid.yaml").write_text(yaml.safe_dump(grid))
        main(["benchmark", "--config", "grid.yaml"])
        assert {(record["system"], record["data"]) for record in records(tmp_path / "out").values()} == set(
            product(grid["systems"], grid["data"])
        )
        assert (tmp_path / "out" / "report.html").is_file()
        assert (tmp_path / "out" / "scoring.csv").is_file() == ("scoring" in grid)
        figures = pd.read_csv(tmp_path / "out" / "results.csv")
        assert ("auroc_adjusted" in set(figures.metric)) == any(part.get("exposure") for part in grid["data"].values())

    def test_a_table_of_splits_is_seen_from_the_folder_that_holds_the_configurations(self, monkeypatch):
        monkeypatch.chdir(CONFIGS.parent)
        settings = yaml.safe_load((CONFIGS / "data" / "montgomery_shenzhen_detection.yaml").read_text())["data"]
        for seed in range(5):
            splits = read_split_table(settings["init_args"]["split_table"], seed)
            assert splits.value_counts().to_dict() == {"test": 364, "train": 241, "val": 69}

    @pytest.mark.slow
    @pytest.mark.parametrize("file", LARGE, ids=lambda file: file.stem)
    def test_all_of_it_resolves(self, file):
        settings = _parser().parse_args(["benchmark", "--config", str(file)])
        asked = _parser().instantiate_classes(settings).benchmark
        names = ("systems", "data", "seeds", "splits", "trainer")
        runs = resolve_grid(Grid(**{name: getattr(asked, name) for name in names}))
        assert len(runs) == len(asked.systems) * len(asked.data) * len(asked.seeds) * len(asked.splits)


def write_own(folder):
    """Write a hospital's own X-rays with lung masks, and their table, which splits none of them."""
    write_phantoms(folder / "own", n_normal=90, n_sick=8, size=32)
    names = sorted(path.name for path in (folder / "own" / "CXR_png").glob("*.png"))
    table = pd.DataFrame(
        {"image": [f"CXR_png/{name}" for name in names], "lung_mask": [f"masks/{name}" for name in names]}
    )
    table["label"] = ["sick" if name.endswith("_1.png") else "normal" for name in names]
    table.assign(hospital="own").to_csv(folder / "own.csv", index=False)


def ends(named):
    """Return the first and the last of what has a name."""
    return {name: named[name] for name in (next(iter(named)), next(reversed(named)))}


def shrunk(grid, small_data):
    """Make a grid a matter of seconds, and its files findable from another folder."""
    ours = {
        name: system
        for name, system in grid["systems"].items()
        if not name.startswith(("ganomaly_anomalib", "fastflow", "cflow", "patchcore", "padim", "dino"))
    }
    systems = {name: {**system, **small_system(Path(system["config"]).stem)} for name, system in ours.items()}
    kept = ends(systems)
    data = {
        name: {
            **part,
            "systems": {system: changes for system, changes in part.get("systems", {}).items() if system in kept},
            "config": str(CONFIGS / "data" / Path(part["config"]).name),
            "data": {
                "init_args": {**part["data"]["init_args"], "num_workers": 0, **small_data[Path(part["config"]).stem]}
            },
        }
        for name, part in grid["data"].items()
    }
    return {
        "systems": kept,
        "data": ends(data),
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "devices": 1},
        "output": "out",
        **{name: grid[name] for name in ("scoring", "batches") if name in grid},
    }
