from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diswot.architecture import Architecture, arch_json, canonical_json, read_arch_json
from diswot.errors import ArchitectureError

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(plain)
def test_canonical_json_reads_back_and_ignores_the_order_of_keys(value: object) -> None:
    text = canonical_json(value)
    assert json.loads(text) == value
    if isinstance(value, dict):
        assert canonical_json(dict(reversed(value.items()))) == text


@given(plain)
def test_the_key_is_the_canonical_json_of_the_identity(choices: object) -> None:
    assert Architecture('a "space"', choices).key == canonical_json({"space": 'a "space"', "choices": choices})


@given(plain, st.dictionaries(st.text(), plain, max_size=3))
def test_the_file_gives_back_the_identity_and_its_origin(tmp_path_factory: pytest.TempPathFactory, choices: object, origin: dict) -> None:
    path = tmp_path_factory.mktemp("arch") / "arch.json"
    arch = Architecture("somewhere", choices)
    path.write_text(arch_json(arch, origin), encoding="utf-8")
    assert read_arch_json(path) == (arch, origin)


def test_the_origin_is_not_part_of_the_identity() -> None:
    assert Architecture("s", [1]).digest == Architecture("s", [1]).digest != Architecture("t", [1]).digest
    with_origin, without = (json.loads(arch_json(Architecture("s", [1]), origin)) for origin in ({"seed": 3}, None))
    assert with_origin.pop("provenance") == {"seed": 3} and with_origin == without


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "empty"),
        ("   \n", "empty"),
        ('{"format": 2, "space": "s0"', "cut short"),
        ("[1, 2]", "not an arch.json"),
        ('{"format": 1, "space": "s0", "choices": {}}', "format 1"),
        ('{"space": "s0", "choices": {}}', "'missing'"),
        ('{"format": 2, "space": "s0", "choices": {}, "extra": 1}', "unknown field 'extra'"),
        ('{"format": 2, "space": "s0"}', "'choices'"),
        ('{"format": 2, "space": 3, "choices": {}}', "'space'"),
        ('{"format": 2, "space": "s0", "choices": NaN}', "not valid JSON"),
        ('{"format": 2, "space": "s0", "choices": 1, "provenance": []}', "provenance"),
        ("[" * 400_000, "nested too deep"),
        ("[" * 10_000_000, "more than 1,000,000 bytes"),
    ],
)
def test_faults_are_named_with_the_file(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "arch.json"
    path.write_text(content)
    with pytest.raises(ArchitectureError) as caught:
        read_arch_json(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_folder_and_binary_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "none.json", tmp_path, tmp_path / "binary.json"):
        with pytest.raises(ArchitectureError, match="cannot be read"):
            read_arch_json(path)
