"""Thousands of bad inputs: each is refused with code 2 and one line, and nothing is left behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.faults.inputs import KINDS, fault_of

EXAMPLES = int(os.environ.get("DISWOT_FAULTS", "40"))
"""Inputs of each kind."""


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_bad_input_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, data: st.DataObject) -> None:
    monkeypatch.chdir(tmp_path)
    prepare, words = data.draw(KINDS[kind])
    fault = fault_of(tmp_path, prepare, words)
    assert not fault, fault
