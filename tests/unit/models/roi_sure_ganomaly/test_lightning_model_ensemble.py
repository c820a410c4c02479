"""Folds of images, and networks of an ensemble, each trained without its own fold."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from anomalib_cxr import RoiSureGanomaly
from anomalib_cxr.errors import SettingError
from anomalib_cxr.models.roi_sure_ganomaly.scores import fold_of, folds_of

from ..xrays import Films

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*You defined a `validation_step` but have no `val_dataloader`"),
]
PATHS = [f"some/CHNCXR_{number:04d}_0.png" for number in range(400)]


class Named(Films):
    """Films whose files have names."""

    def __getitem__(self, index):
        return super().__getitem__(index).update(image_path=f"film_{index}.png")


class TestFolds:
    def test_are_of_nearly_the_same_size(self):
        counts = Counter(fold_of(path, 4) for path in PATHS)
        assert sorted(counts) == [0, 1, 2, 3]
        assert min(counts.values()) > 75

    def test_depend_on_the_name_alone(self):
        elsewhere = [path.replace("some", "/another/folder") for path in PATHS]
        assert torch.equal(folds_of(PATHS, 4), folds_of(elsewhere, 4))
        assert folds_of(["film_0.png", "film_1.png", "film_2.png", "film_3.png"], 2).tolist() == [0, 1, 1, 0]


def test_a_single_network_has_the_layout_of_the_published_model(make_tiny):
    names = make_tiny(seed=0).state_dict().keys()
    assert {name.split(".")[0] for name in names} <= {"model", "discriminators", "post_processor"}
    parts = {"model.ensemble.0.generator", "model.ensemble.0.encoder"}
    networks = {name for name in names if name.startswith("model.") and "healthy_maps" not in name}
    assert {".".join(name.split(".")[:4]) for name in networks} == parts
    assert len(make_tiny().configure_optimizers()) == 2


def test_networks_begin_alike_in_shape_and_not_in_weights(make_tiny):
    states = [dict(network.named_parameters()) for network in make_tiny(seed=0, ensemble__n_folds=3).model.ensemble]
    assert len(states) == 3
    assert states[0].keys() == states[1].keys() == states[2].keys()
    first = next(name for name in states[0] if name.startswith("encoder."))
    assert not any(torch.equal(states[one][first], states[two][first]) for one, two in ((0, 1), (0, 2), (1, 2)))


def test_a_network_is_not_trained_on_its_fold(fit, make_tiny):
    """Two trainings that differ in one image: the network that leaves it out is the same in both."""
    changed = Named(8)
    changed.images = changed.images.clone()
    changed.images[0] *= 0.5
    models = []
    for films in (Named(8), changed):
        model = make_tiny(seed=0, ensemble__n_folds=2, reconstruction="l2")
        fit(model, 2, films)
        models.append(model)
    left_out = fold_of("film_0.png", 2)
    for number in (0, 1):
        for part in ("model.ensemble", "discriminators"):
            networks = [model.get_submodule(f"{part}.{number}").parameters() for model in models]
            same = [torch.equal(*weights) for weights in zip(*networks, strict=True)]
            assert all(same) == (number == left_out)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_batch_of_one_fold_trains_the_others(fit, make_tiny, accumulate):
    model = make_tiny(seed=0, ensemble__n_folds=2, optimizer__accumulate_grad_batches=accumulate)
    before = [[weight.detach().clone() for weight in network.parameters()] for network in model.model.ensemble]
    same_fold = [index for index in range(20) if fold_of(f"film_{index}.png", 2) == 0][:4]
    fit(model, 1, torch.utils.data.Subset(Named(20), same_fold))
    moved = [
        any(not torch.equal(*weights) for weights in zip(network.parameters(), start, strict=True))
        for network, start in zip(model.model.ensemble, before, strict=True)
    ]
    assert moved == [False, True]


def test_images_without_names_are_refused(fit, make_tiny, films):
    with pytest.raises(SettingError, match="n_folds = 2 and training images without image_path"):
        fit(make_tiny(ensemble__n_folds=2), 1, films())


def test_exported_to_torch_without_any_discriminator(make_tiny, tmp_path):
    model = make_tiny(ensemble__n_folds=2)
    exported = torch.load(model.to_torch(tmp_path), weights_only=False)["model"]
    assert not any("discriminator" in name for name in exported.state_dict())
    assert len(model.discriminators) == 2
    assert isinstance(model, RoiSureGanomaly)
