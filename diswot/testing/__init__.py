"""Conformance checks: what every part, ours and yours, must hold to. One line of test each.

from diswot.testing import check_loss

def test_my_loss():
    check_loss("mylab.losses:MyLoss")

Each takes `module:name`, or the part itself, and raises an `AssertionError` that says what is broken.
"""

from diswot.testing.data_sources import check_data_source
from diswot.testing.losses import check_loss
from diswot.testing.proxies import check_proxy
from diswot.testing.schemes import check_scheme
from diswot.testing.spaces import check_space
from diswot.testing.strategies import check_strategy
from diswot.testing.teachers import check_teacher

__all__ = ["check_data_source", "check_loss", "check_proxy", "check_scheme", "check_space", "check_strategy", "check_teacher"]
