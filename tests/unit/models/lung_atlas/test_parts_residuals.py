"""Maps against naive means, energies and spots against SciPy, and what healthy and other lungs score."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate, gaussian_filter

from anomalib_cxr.functional.frames import frame_lung_mask
from anomalib_cxr.models.lung_atlas.parts import (
    FocalResidual,
    SubspaceResidual,
    by_lungs,
    cell_means,
    locally,
    spot_contrast,
)
from anomalib_cxr.models.lung_atlas.texture import TextureResidual, texture_filters

from .frames import draw_healthy

BLOT = (slice(24, 32), slice(56, 64))  # of the right lung


@pytest.fixture(scope="module")
def frames():
    return draw_healthy(14)


@pytest.fixture(scope="module")
def blotted():
    frames = draw_healthy(6, seed=1)
    frames[..., BLOT[0], BLOT[1]] += 0.4
    return frames


def fitted(part, frames):
    part.fit(frames)
    return part


PARTS = {
    "local": lambda n_components: SubspaceResidual(locally, n_components),
    "lungs": lambda n_components: SubspaceResidual(by_lungs, n_components),
    "texture": TextureResidual,
}


@pytest.fixture(scope="module", params=PARTS)
def part(request, frames):
    return fitted(PARTS[request.param](10), frames)


def values_of(part, frames):
    return part._energies(frames) if isinstance(part, TextureResidual) else part._values(frames)


def test_a_subspace_of_all_differences_holds_its_frames(frames):
    """14 frames, each ten times: 139 directions."""
    part = fitted(SubspaceResidual(locally, 139), frames)
    assert part(frames).score.max() < -10  # of 1e-6, which is added, the logarithm is -13.8
    assert part(draw_healthy(6, seed=1)).score.min() > -5


def test_healthy_frames_lie_nearer_the_subspace_than_their_mean(part, frames):
    values = values_of(part, frames)
    away = values - values.mean(dim=0)
    assert part.subspace.residual(values).square().sum() < 0.6 * away.square().sum()


def test_a_bright_blot_raises_the_score(part, blotted):
    assert (part(blotted).score > part(draw_healthy(6, seed=1)).score).all()


def test_a_bright_blot_is_the_brightest_of_the_map(part, blotted):
    rise = (part(blotted).map - part(draw_healthy(6, seed=1)).map).mean(dim=0)[0]
    rows, columns = rise.shape
    row, column = divmod(int(rise.argmax()), columns)
    height, width = 64 // rows, 80 // columns
    reach = 3  # px: a filter answers to a blot's edge beside it, too
    assert BLOT[0].start - reach <= (row + 0.5) * height < BLOT[0].stop + reach
    assert BLOT[1].start - reach <= (column + 0.5) * width < BLOT[1].stop + reach


def test_score_and_map_are_means_of_the_same_squares(part, blotted):
    found, squared = part(blotted), part.subspace.residual(values_of(part, blotted)) ** 2
    np.testing.assert_allclose(found.score, np.log(squared.mean(dim=1) + 1e-6), rtol=1e-5)
    assert found.map.shape == (6, 1, *part.grid)
    if isinstance(part, TextureResidual):
        torch.testing.assert_close(found.map.mean(dim=(1, 2, 3)), squared.mean(dim=1))


def test_cells_are_means_over_what_is_inside():
    """As in a loop; what is outside does not count, and a cell without pixels is 0."""
    inside = frame_lung_mask((64, 80), torch.zeros(()))
    inside[8:16, 16:24] = 0
    values = torch.rand(int(inside.sum()), generator=torch.Generator().manual_seed(0))
    picture = np.full((64, 80), np.nan)
    picture[inside.numpy() > 0] = values
    expected = [
        np.nanmean(cell) if (cell := picture[row : row + 4, column : column + 4])[~np.isnan(cell)].size else 0
        for row in range(0, 64, 4)
        for column in range(0, 80, 4)
    ]
    np.testing.assert_allclose((values @ cell_means(inside)).numpy(), expected, rtol=1e-5)
    assert expected[2 * 20 + 4] == 0


class TestSpots:
    def test_are_what_scipy_gives(self):
        """The brightest hundredth of each blurred residual, in its own standard deviations; lungs without margins."""
        residual = torch.randn(3, 58 * 72, generator=torch.Generator().manual_seed(0))
        expected = []
        for picture in residual.reshape(3, 58, 72).double().numpy():
            halves = [gaussian_filter(picture[:, half], 1) for half in (slice(0, 36), slice(36, 72))]
            values = np.sort(np.concatenate(halves, axis=1), axis=None)
            expected.append(np.log(values[-42:].mean() / values.std()))
        np.testing.assert_allclose(spot_contrast(residual).numpy(), expected, atol=1e-4)

    def test_do_not_depend_on_the_strength_of_the_residual(self):
        residual = torch.randn(2, 58 * 72, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(spot_contrast(7 * residual), spot_contrast(residual), atol=1e-4, rtol=1e-4)

    def test_are_bright(self):
        residual = torch.randn(1, 58 * 72, generator=torch.Generator().manual_seed(0))
        bright, dark = residual.clone(), residual.clone()
        for picture, change in ((bright, 8), (dark, -8)):
            picture.reshape(1, 58, 72)[:, 20:23, 10:13] += change
        assert spot_contrast(bright) > spot_contrast(residual) + 0.2
        assert spot_contrast(dark) <= spot_contrast(residual)

    def test_of_nothing_are_finite(self):
        assert spot_contrast(torch.zeros(1, 58 * 72)).isfinite().all()

    def test_stand_beside_the_reconstruction_error(self, frames, blotted):
        plain, focal = (fitted(kind(locally, 10), frames) for kind in (SubspaceResidual, FocalResidual))
        found = focal(blotted)
        assert torch.equal(found.score[:, 0], plain(blotted).score)
        assert torch.equal(found.map, plain(blotted).map)
        assert (found.score[:, 1] > focal(draw_healthy(6, seed=1)).score[:, 1]).all()


class TestEnergies:
    def test_are_what_scipy_gives(self, frames):
        """Correlation by lung, mirrored at the outermost pixels; the root of the mean square of 4 x 4 of them."""
        picture = frames[0, 0].double().numpy()
        lungs = np.concatenate([picture[3:61, 2:38], picture[3:61, 42:78]])
        normal = (picture - lungs.mean()) / (lungs.std() + 0.01)
        expected = []
        for weights in texture_filters()[:, 0].double().numpy():
            halves = [correlate(normal[:, half], weights, mode="mirror") for half in (slice(0, 40), slice(40, 80))]
            squares = (np.concatenate(halves, axis=1) ** 2).reshape(16, 4, 20, 4).mean(axis=(1, 3))
            expected.append(np.log(np.sqrt(squares) + 1e-3))
        found = TextureResidual(2)._energies(frames[:1]).reshape(15, 16, 20)
        np.testing.assert_allclose(found.numpy(), np.stack(expected), atol=5e-3)

    def test_hardly_follow_the_contrast(self, frames):
        """Of a contrast that is halved, the logarithm of energies that follow it falls by 0.69."""
        part = TextureResidual(2)
        change = part._energies(frames) - part._energies(0.5 * frames + 0.2)
        assert 0 < change.mean() < 0.15
        assert change.max() < 0.2
