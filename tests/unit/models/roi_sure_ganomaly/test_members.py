"""Folds of images, and members that learn from all but their own."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
import torch

from anomalib_cxr import RoiSureGanomaly
from anomalib_cxr.errors import SettingError
from anomalib_cxr.models.roi_sure_ganomaly.members import fold_of, folds_of

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


def test_one_member_has_the_layout_of_the_published_model(make_tiny):
    names = make_tiny(seed=0).state_dict().keys()
    assert {name.split(".")[0] for name in names} <= {"model", "discriminator", "post_processor"}
    assert {".".join(name.split(".")[:2]) for name in names if name.startswith("model.")} == {
        "model.painter", "model.encoder",
    }  # fmt: skip
    assert len(make_tiny().configure_optimizers()) == 2


def test_members_begin_alike_in_shape_and_not_in_weights(make_tiny):
    members = make_tiny(seed=0, n_folds=3).model.members
    states = [{name: value for name, value in member.named_parameters() if "others" not in name} for member in members]
    assert len(states) == 3
    assert states[0].keys() == states[1].keys() == states[2].keys()
    first = next(name for name in states[0] if name.startswith("encoder."))
    assert not any(torch.equal(states[one][first], states[two][first]) for one, two in ((0, 1), (0, 2), (1, 2)))


def test_a_member_does_not_see_its_fold(fit, make_tiny):
    """Two trainings that differ in one image: the member that leaves it out is the same in both."""
    changed = Named(8)
    changed.images = changed.images.clone()
    changed.images[0] *= 0.5
    models = []
    for films in (Named(8), changed):
        model = make_tiny(seed=0, n_folds=2, reconstruction="l2")
        fit(model, 2, films)
        models.append(model)
    left_out = fold_of("film_0.png", 2)
    for number, (first, second) in enumerate(zip(*(model.model.members for model in models), strict=True)):
        same = [torch.equal(*weights) for weights in zip(first.learning, second.learning, strict=True)]
        assert all(same) == (number == left_out)
    discriminators = [[list(each.parameters()) for each in model.discriminators] for model in models]
    for number, (first, second) in enumerate(zip(*discriminators, strict=True)):
        same = [torch.equal(*weights) for weights in zip(first, second, strict=True)]
        assert all(same) == (number == left_out)


def test_a_batch_of_one_fold_trains_the_others(fit, make_tiny):
    model = make_tiny(seed=0, n_folds=2)
    before = [[weight.clone() for weight in member.learning] for member in model.model.members]
    same_fold = [index for index in range(20) if fold_of(f"film_{index}.png", 2) == 0][:4]
    films = Named(20)
    fit(model, 1, torch.utils.data.Subset(films, same_fold))
    moved = [
        any(not torch.equal(*weights) for weights in zip(member.learning, start, strict=True))
        for member, start in zip(model.model.members, before, strict=True)
    ]
    assert moved == [False, True]


def test_images_without_names_are_refused(fit, make_tiny, films):
    with pytest.raises(SettingError, match="n_folds = 2 and training images without image_path"):
        fit(make_tiny(n_folds=2), 1, films())


def test_exported_to_torch_without_any_discriminator(make_tiny, tmp_path):
    model = make_tiny(n_folds=2)
    file = model.to_torch(tmp_path)
    held = torch.load(file, weights_only=False)["model"]
    assert not any("discriminator" in name for name in held.state_dict())
    assert len(model.discriminators) == 2
    assert isinstance(model, RoiSureGanomaly)
    assert model.folds(SimpleNamespace(image_path=["film_2.png"])).tolist() == [1]
