"""A small network under one seed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from diswot.observe import batch_statistics, disable_inplace
from diswot.proxies import Candidate
from tests.proxies.networks import BATCH, SIDE, Small, candidate_of


@pytest.fixture
def candidate() -> Iterator[Candidate]:
    torch.manual_seed(0)
    model = disable_inplace(Small()).double()
    images, target = torch.randn(BATCH, 3, SIDE, SIDE, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0, 1])
    with batch_statistics(model):
        yield candidate_of(model, images, target)
