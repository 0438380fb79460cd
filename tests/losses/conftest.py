"""What a test of losses draws does not depend on which test ran before."""

from __future__ import annotations

import pytest
import torch

from tests.losses.observations import GENERATOR


@pytest.fixture(autouse=True)
def _seeds() -> None:
    GENERATOR.manual_seed(1)
    torch.manual_seed(0)
