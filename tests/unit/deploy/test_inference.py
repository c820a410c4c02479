"""Graphs that threads share, against the same operations by NumPy."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openvino
import pytest
from openvino import opset13 as op

from anomalib_cxr.deploy.inference import MAX_BATCH, MAX_THREADS, ThreadedNetwork, thread_count


def network(*sides):
    """Return a graph that squares images, and sums each."""
    images = op.parameter([-1, 1, *sides], np.float32, name="images")
    squares = op.multiply(images, images)
    sums = op.reduce_sum(squares, op.constant(np.array([1, 2, 3])))
    return openvino.Model([squares, sums], [images])


def batch(count):
    return np.random.default_rng(count).random((count, 1, 4, 6), np.float32)


@pytest.mark.parametrize("sides", [(4, 6), (-1, -1)])
@pytest.mark.parametrize("count", [1, 3, MAX_BATCH, MAX_BATCH + 3])
def test_any_number_of_images(sides, count):
    images = batch(count)
    squares, sums = ThreadedNetwork(network(*sides), "CPU", [0, 1])(images)
    np.testing.assert_allclose(squares, images**2, rtol=1e-6)
    np.testing.assert_allclose(sums, (images**2).sum((1, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize("sides", [(4, 6), (-1, -1)])
def test_several_threads_do_not_mix_their_images(sides):
    shared = ThreadedNetwork(network(*sides), "CPU", [1])
    batches = [batch(1 + number % MAX_BATCH) for number in range(64)]
    with ThreadPoolExecutor(4) as pool:
        for images, (sums,) in zip(batches, pool.map(shared, batches), strict=True):
            np.testing.assert_allclose(sums, (images**2).sum((1, 2, 3)), rtol=1e-5)


def test_the_graph_is_not_changed():
    given = network(4, 6)
    ThreadedNetwork(given, "CPU", [0])(batch(MAX_BATCH))
    assert given.input().get_partial_shape()[0].is_dynamic


@pytest.mark.parametrize(
    ("cores", "allowed", "threads"),
    [(2, None, 2), (64, None, MAX_THREADS), (None, None, 1), (8, "1", 1), (2, "16", 2), (2, "0", 2), (2, "2,1", 2)],
)
def test_threads_by_cores_and_what_the_environment_allows(monkeypatch, cores, allowed, threads):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if allowed is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", allowed)
    assert thread_count() == threads
