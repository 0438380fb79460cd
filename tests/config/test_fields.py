from __future__ import annotations

from pathlib import Path

import pytest

from diswot.config.fields import resolve
from diswot.config.scoring import ScoreConfig, SearchConfig, StudyConfig
from diswot.config.training import DistillConfig, Recipe
from diswot.errors import ConfigError
from diswot.losses import create

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def test_later_sources_win(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("teacher: resnet20\nseeds: 3\ntop-k: 9\n")
    config = resolve(SearchConfig, path, ["seeds=5", "params=1M"], {"params": "2M", "flops": None})
    assert (config.teacher, config.seeds, config.top_k, config.params, config.flops) == ("resnet20", 5, 9, "2M", None)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(SearchConfig, None, ["taecher=x", "seeds=many", "loose", "strategy=genetic", "download=3"], {})
    text = str(caught.value)
    for part in (
        "did you mean teacher",
        "seeds 'many' is not a whole number",
        "'loose' is not key=value",
        "one of evolution",
        "download 3",
    ):
        assert part in text
    assert "\n" not in text


@pytest.mark.parametrize(("text", "value"), [("3", 3), ("3.0", 3), ("true", None), ("3.5", None), ("[3]", None)])
def test_whole_numbers_are_whole(text: str, value: int | None) -> None:
    if value is None:
        with pytest.raises(ConfigError, match="whole number"):
            resolve(ScoreConfig, None, [f"seeds={text}"], {})
    else:
        assert resolve(ScoreConfig, None, [f"seeds={text}"], {}).seeds == value


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("!!python/object/apply:os.system ['touch /tmp/diswot-was-here']", "not plain YAML"),
        ("teacher: [", "not plain YAML"),
        ("- a\n", "a mapping"),
        ("text", "a mapping"),
        ("&a [*a]", "a mapping"),
        ("[" * 5000, "not plain YAML|nested too deep"),
        ("teacher: {a: 1}", "teacher"),
        ("1: 2", "unknown key '1'"),
    ],
)
def test_files_that_are_no_configuration_are_named(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=says) as caught:
        resolve(SearchConfig, path, [], {})
    assert "\n" not in str(caught.value)
    assert not Path("/tmp/diswot-was-here").exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        resolve(SearchConfig, tmp_path / "none.yaml", [], {})


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("# nothing\n")
    assert resolve(SearchConfig, tmp_path / "c.yaml", [], {}) == SearchConfig()


KINDS = [("search", SearchConfig), ("distill", DistillConfig), ("rows", DistillConfig), ("study", StudyConfig)]


@pytest.mark.parametrize(("kind", "config"), KINDS)
def test_every_shipped_file_resolves_and_says_its_command(kind: str, config: type) -> None:
    files = sorted((CONFIGS / kind).glob("*.yaml"))
    assert files
    for path in files:
        found = resolve(config, path, [], {})
        first = path.read_text().splitlines()[0]
        verb = "distill" if kind == "rows" else kind
        if isinstance(found, DistillConfig):
            Recipe.of(found)
            create(found.loss)
        assert first.startswith(f"# diswot {verb} ") and f"--config configs/{kind}/{path.name}" in first, path


def test_every_field_says_what_it_is() -> None:
    import dataclasses

    for config in (SearchConfig, ScoreConfig, DistillConfig, StudyConfig):
        for field in dataclasses.fields(config):
            assert field.metadata["help"] and field.metadata["group"], field.name


def test_numbers_that_cannot_be_are_named() -> None:
    with pytest.raises(ConfigError, match=r"iterations 0: at least 1; top-k -1: at least 1"):
        SearchConfig(iterations=0, top_k=-1).check()
