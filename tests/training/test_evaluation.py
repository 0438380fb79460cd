"""Accuracy, its interval, and how images are normalised."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F

from diswot.data.images import ArrayImages
from diswot.training.distributed import DistributedContext
from diswot.training.evaluation import Accuracy, Network, Normalise, evaluate

AS_THEY_ARE = Normalise(torch.zeros(3), torch.ones(3))


class TellsTheColour(nn.Module):
    """The class is the first pixel's first channel."""

    def forward(self, x: Tensor) -> Tensor:
        return F.one_hot((x[:, 0, 0, 0] * 255).round().long() % 10, 10).float()


def of_colours(colours: np.ndarray, labels: np.ndarray) -> ArrayImages:
    return ArrayImages(np.broadcast_to(colours[:, None, None, None], (len(colours), 2, 2, 3)).astype(np.uint8), labels)


def test_accuracy_and_its_interval() -> None:
    labels = np.arange(1200) % 10
    guesses = np.where(np.arange(1200) < 900, labels, (labels + 1) % 10)
    accuracy = evaluate(Network(TellsTheColour(), AS_THEY_ARE), of_colours(guesses, labels), "cpu")
    assert accuracy.top1 == 75.0 and accuracy.count == 1200
    assert_wilson(accuracy)
    for right, count in ((0, 1), (1, 1), (0, 40), (13, 40), (40, 40), (7342, 10_000)):
        assert_wilson(Accuracy(100 * right / count, count))
    assert Accuracy(0.0, 40).interval[0] == 0 and Accuracy(0.0, 40).interval[1] > 5, "no image right is not certainty"


def assert_wilson(accuracy: Accuracy) -> None:
    found = stats.binomtest(round(accuracy.top1 * accuracy.count / 100), accuracy.count).proportion_ci(method="wilson")
    assert accuracy.interval == pytest.approx((100 * found.low, 100 * found.high), abs=1e-9)


def test_every_process_measures_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each the images from its rank on, in steps of their number; what they found is added up."""
    labels = np.arange(30) % 10
    source = of_colours(np.where(np.arange(30) < 20, labels, (labels + 1) % 10), labels)
    network = Network(TellsTheColour(), AS_THEY_ARE)
    found: list[Tensor] = []

    def keep(_context: DistributedContext, values: Tensor) -> Tensor:
        found.append(values)
        return values

    monkeypatch.setattr(DistributedContext, "sum", keep)
    whole = evaluate(network, source, "cpu")
    (rights,) = found
    found.clear()
    for rank in range(3):
        evaluate(network, source, "cpu", DistributedContext(rank, 3))
    assert whole.top1 == pytest.approx(100 * 20 / 30)
    assert torch.stack(found[::2]).sum(0).tolist() == rights.tolist() and [int(right[0]) for right in found[::2]] == [7, 7, 6]
    assert np.array_equal(torch.stack(found[1::2]).sum(0), whole.confusion)


def test_confusions_count_every_image_by_its_class_and_by_what_it_was_taken_for() -> None:
    labels, seen = np.arange(30) % 10, (np.arange(30) ** 2) % 10
    found = evaluate(Network(TellsTheColour(), AS_THEY_ARE), of_colours(seen, labels), "cpu").confusion
    expected = np.zeros((10, 10), np.int64)
    for label, taken_for in zip(labels, seen, strict=True):
        expected[label, taken_for] += 1
    assert np.array_equal(found, expected)


def test_top5_counts_the_five_likeliest() -> None:
    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.arange(10.0).expand(len(x), 10)  # 9, 8, 7, 6, 5 are the likeliest

    source = ArrayImages(np.zeros((100, 2, 2, 3), np.uint8), np.arange(100) % 10)
    accuracy = evaluate(Network(Fixed(), AS_THEY_ARE), source, "cpu")
    assert (accuracy.top1, accuracy.top5) == (10.0, 50.0)

    class Few(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.zeros(len(x), 5)

    few = evaluate(Network(Few(), AS_THEY_ARE), source, "cpu")
    assert math.isnan(few.top5), "five classes: whatever is shown is among the first five"


def test_pixels_are_normalised_as_bytes_and_as_floats_alike() -> None:
    normalise = Normalise(torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 1.0, 2.0]))
    pixels = torch.tensor([51, 102, 255], dtype=torch.uint8)[None, :, None, None].expand(2, 3, 4, 4)
    expected = torch.tensor([(0.2 - 0.1) / 0.5, (0.4 - 0.2) / 1.0, (1.0 - 0.3) / 2.0])
    for given in (pixels, pixels / 255):
        torch.testing.assert_close(normalise(given), expected[None, :, None, None].expand(2, 3, 4, 4))


def test_networks_are_measured_in_evaluation_mode() -> None:
    class Norm(TellsTheColour):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            self.norm(x)
            return super().forward(x)

    model = Norm().train()
    evaluate(Network(model, AS_THEY_ARE), of_colours(np.arange(20) % 10, np.arange(20) % 10), "cpu")
    assert model.norm.running_mean is not None and not model.norm.running_mean.any()
