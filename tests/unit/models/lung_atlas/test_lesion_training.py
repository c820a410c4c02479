"""The loss by hand, batches of the training, and a short training."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from anomalib_cxr.functional.lesions import add_lesions
from anomalib_cxr.models.base.reproducible import seeded
from anomalib_cxr.models.lung_atlas import lesion_training
from anomalib_cxr.models.lung_atlas.lesion_net import LesionNet, LesionOutput
from anomalib_cxr.models.lung_atlas.lesion_training import LesionBatch, LesionTraining, lesion_loss

from .frames import draw_healthy

pytestmark = pytest.mark.slow

N_FRAMES = 12
BLOT = (slice(30, 50), slice(10, 30))
SMALL = (slice(15, 25), slice(5, 15))  # the blot in the map


def add_blot(frames, insides, draw):
    """Add a square of 12 % of the unit of :func:`training`."""
    altered = frames.clone()
    altered[:, :, BLOT[0], BLOT[1]] += 0.12 * add_blot.unit
    return altered


def add_nothing(frames, insides, draw):
    return frames


@pytest.fixture(scope="module")
def frames():
    return draw_healthy(N_FRAMES, (96, 96))


@pytest.fixture(scope="module")
def make(frames):
    insides = torch.zeros_like(frames)
    insides[..., 5:91, 3:45] = insides[..., 5:91, 51:93] = 1
    return lambda add=add_lesions, seed=0: LesionTraining(frames, insides, add, seed)


@pytest.fixture(scope="module")
def training(make):
    training = make(add_blot)
    add_blot.unit = training.input.unit
    return training


def new_net():
    """Make a net whose weights are those of torch's random numbers."""
    return LesionNet(2, widths=(4, 4, 8, 8))


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(lesion_training, "BATCH", 8)


def train(make, steps, seed):
    with seeded(seed):
        return make(seed=seed).run(new_net(), steps)


class TestLoss:
    @pytest.fixture
    def output_and_batch(self):
        draw = torch.Generator().manual_seed(0)
        places, clean, altered = torch.randn(3, 4, 1, 6, 5, generator=draw)
        lesion, inside = torch.rand(2, 4, 1, 6, 5, generator=draw)
        lesion[1:3] *= torch.tensor([0.19, 0.0]).reshape(2, 1, 1, 1)  # of 30 pixels: too little, and none
        output = LesionOutput(places, altered, torch.randn(4, generator=draw))
        return output, LesionBatch(torch.zeros(4, 2, 12, 10), lesion, clean, inside)

    def test_is_what_numpy_gives(self, output_and_batch):
        output, batch = output_and_batch
        places, altered, image = (each.double().numpy() for each in output)
        _, lesion, clean, inside = (each.double().numpy() for each in batch)

        def cross_entropy(logits, target):
            probability = 1 / (1 + np.exp(-logits))
            return -(target * np.log(probability) + (1 - target) * np.log(1 - probability))

        has_lesion = lesion.sum(axis=(1, 2, 3)) > 6
        assert has_lesion.tolist() == [True, False, False, True]
        of_places = ((0.15 + inside) * (1 + 2 * lesion) * cross_entropy(places, lesion)).mean()
        expected = 2 * of_places + 0.3 * cross_entropy(image, has_lesion).mean() + 2 * np.abs(altered - clean).mean()
        assert lesion_loss(output, batch).item() == pytest.approx(expected, rel=1e-5)

    def test_is_small_for_the_right_answer(self, output_and_batch):
        output, batch = output_and_batch
        batch = batch._replace(lesion=batch.lesion.round())
        has_lesion = batch.lesion.sum(dim=(1, 2, 3)) > 6
        right = LesionOutput(40 * batch.lesion - 20, batch.clean, 40.0 * has_lesion - 20)
        assert lesion_loss(right, batch) < 1e-5 < lesion_loss(output, batch)


class TestBatches:
    def test_added_lesions_are_the_target(self, training):
        """A change of 12 % of the unit counts as 1 - 1/e."""
        batch = training.make_batch(torch.arange(6))
        assert batch.inputs.shape == (6, 2, 96, 96)
        assert batch.lesion.shape == batch.clean.shape == batch.inside.shape == (6, 1, 48, 48)
        expected = torch.zeros(6, 1, 48, 48)
        expected[..., SMALL[0], SMALL[1]] = 1 - np.exp(-1)
        torch.testing.assert_close(batch.lesion, expected, atol=1e-4, rtol=0)

    def test_nothing_added_is_no_lesion(self, make):
        """The clean lungs are then what is seen, but for the noise; of others, without what is altered."""
        batch = make(add_nothing).make_batch(torch.arange(6))
        assert not batch.lesion.any()
        halved = torch.nn.functional.avg_pool2d(batch.inputs[:, :1], 2)
        assert (halved * batch.inside - batch.clean).abs().mean() < 0.05

    def test_clean_lungs_are_without_the_lesion_and_0_outside(self, training):
        batch = training.make_batch(torch.arange(6))
        assert not batch.clean[batch.inside == 0].any()
        assert (batch.inside == 0).any()
        halved = torch.nn.functional.avg_pool2d(batch.inputs[:, :1], 2)
        extra = (halved - batch.clean)[..., SMALL[0], SMALL[1]].mean(dim=(1, 2, 3))
        assert (extra > 0.12 * 0.6).all()  # of 12 % of the unit, by contrasts from 0.70 to 1.42
        assert (extra < 0.12 * 1.6).all()

    def test_clean_lungs_count_from_the_median_of_what_is_seen(self, make):
        """Of lungs that are brighter everywhere, the net is to reconstruct darker ones."""
        training = make(lambda frames, insides, draw: frames + 0.1)
        batch = training.make_batch(torch.arange(6))
        halved = torch.nn.functional.avg_pool2d(batch.inputs[:, :1], 2)
        extra = (halved - batch.clean)[batch.inside == 1].mean() * training.input.unit
        assert 0.1 * 0.7 < extra < 0.1 * 1.42  # by contrasts from 0.70 to 1.42

    def test_each_time_another_one(self, training):
        first, second = (training.make_batch(torch.arange(2)).inputs for _ in range(2))
        assert not torch.allclose(first, second, atol=0.1)

    def test_all_images_come_equally_often(self, make, small_batches):
        batches = make()._batches(9)
        assert [len(batch) for batch in batches] == [8] * 9
        assert torch.cat(batches).bincount().tolist() == [6] * N_FRAMES
        assert not torch.equal(torch.cat(batches)[:N_FRAMES], torch.cat(batches)[N_FRAMES : 2 * N_FRAMES])


class TestResiduals:
    def test_an_image_gets_that_of_the_input_without_its_fold(self, training, monkeypatch):
        class Numbered:
            def __init__(self, number):
                self.number = number

            def residual(self, seen):
                return torch.full_like(seen, self.number)

        monkeypatch.setattr(training, "inputs", [Numbered(number) for number in range(3)])
        fold = torch.tensor([2, 0, 0, 1])
        residual = training._residual(torch.zeros(4, 1, 96, 96), fold)
        assert residual.amin(dim=(1, 2, 3)).tolist() == residual.amax(dim=(1, 2, 3)).tolist() == [2, 0, 0, 1]

    def test_that_input_has_not_learned_from_the_image(self, training, frames):
        """Eight frames, each ten times, leave nothing of themselves: 79 directions of 300."""
        normalized = training.input.normalize(frames)
        assert training.fold.bincount().tolist() == [4, 4, 4]
        for shift, is_unseen in enumerate((True, False, False)):
            residual = training._residual(normalized, (training.fold + shift) % 3)
            assert (residual.abs().mean(dim=(1, 2, 3)) > 0.005).tolist() == [is_unseen] * N_FRAMES

    def test_all_inputs_have_the_unit_of_all_images(self, training):
        assert {prepare.unit.item() for prepare in training.inputs} == {training.input.unit.item()}


class TestRun:
    def test_the_same_seed_gives_the_same_weights(self, make, assert_same, small_batches):
        first, second, other = (train(make, 2, seed).state_dict() for seed in (3, 3, 4))
        assert_same(first, second)
        assert not torch.equal(first["stem.weight"], other["stem.weight"])

    def test_returns_the_average_of_the_weights(self, make, small_batches):
        """The first step has nine tenths in it, the next ones 9 of 11, of 12, and so on."""
        with seeded(0):
            net = new_net()
        states = [copy.deepcopy(net.state_dict())]
        hook = register_optimizer_step_post_hook(lambda *_: states.append(copy.deepcopy(net.state_dict())))
        average = make().run(net, 3)
        hook.remove()
        assert len(states) == 4
        assert not average.training
        for name, found in average.state_dict().items():
            if name.endswith("num_batches_tracked"):
                assert found == 3
                continue
            expected = states[0][name]
            for step in range(3):
                kept = (step + 1) / (step + 10)
                expected = kept * expected + (1 - kept) * states[step + 1][name]
            torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)

    def test_some_steps_lower_the_loss(self, make, small_batches):
        training = make()
        batch = training.make_batch(torch.arange(N_FRAMES))
        with seeded(0):
            net = LesionNet(2).eval()
            with torch.no_grad():
                before = lesion_loss(net(batch.inputs), batch)
            average = training.run(net, 20)
        with torch.no_grad():
            assert lesion_loss(average(batch.inputs), batch) < 0.95 * before
