"""Configurations from files, words and flags: later ones win, and every fault is named at once."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from diswot import losses
from diswot.config import CompareConfig, DistillConfig, ScoreConfig, SearchConfig, StudyConfig, TrainConfig, check_ranges, option, resolve
from diswot.config.fields import flag_of
from diswot.errors import ConfigError
from diswot.searching.recipe import SearchPlan
from diswot.studies.recipe import StudyPlan

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
VERBS = [ScoreConfig, SearchConfig, StudyConfig, TrainConfig, DistillConfig, CompareConfig]


def test_later_sources_win(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("teacher: resnet20\nseeds: 3\ntop-k: 9\n")
    config = resolve(SearchConfig, path, ["seeds=5", "params=1M"], {"params": "2M", "flops": None})
    assert (config.teacher, config.seeds, config.top_k, config.params, config.flops) == ("resnet20", 5, 9, "2M", None)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(SearchConfig, None, ["taecher=x", "seeds=many", "loose", "init=xavier", "download=3"], {})
    text = str(caught.value)
    for part in (
        "did you mean teacher",
        "--seeds 'many' is not a whole number",
        "'loose' is not key=value",
        "--init 'xavier' is not one of kaiming, gaussian, torch, orthogonal",
        "--download 3 is not true or false",
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
        ("!!python/object/apply:os.system ['touch diswot-was-here']", "not plain YAML"),
        ("teacher: [", "not plain YAML"),
        ("- a\n", "a mapping"),
        ("text", "a mapping"),
        ("&a [*a]", "a mapping"),
        ("[" * 5000, "not plain YAML|nested too deep"),
        ("teacher: {a: 1}", "teacher"),
        ("1: 2", "unknown key '1'"),
    ],
)
def test_files_that_are_no_configuration_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, says: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "c.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=says) as caught:
        resolve(SearchConfig, path, [], {})
    assert "\n" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["c.yaml"], "nothing was run"


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
        found.check()
        first = path.read_text().splitlines()[0]
        verb = "distill" if kind == "rows" else kind
        if isinstance(found, DistillConfig):
            losses.create(found.loss)
        elif isinstance(found, SearchConfig):
            SearchPlan(found)
        else:
            StudyPlan(found, "table.csv")
        assert first.startswith(f"# diswot {verb} ") and f"--config configs/{kind}/{path.name}" in first, path


@pytest.mark.parametrize("config", VERBS)
def test_every_field_says_what_it_is(config: type) -> None:
    for field in dataclasses.fields(config):
        assert field.metadata["help"] and field.metadata["group"], field.name


@pytest.mark.parametrize("config", VERBS)
def test_every_default_is_within_its_range(config: type) -> None:
    config().check()


def test_numbers_that_cannot_be_are_named() -> None:
    both = r"^--iterations 0: at least 1 is needed; --top-k -1: at least 1 is needed$"
    with pytest.raises(ConfigError, match=both):
        SearchConfig(iterations=0, top_k=-1).check()
    with pytest.raises(ConfigError, match=both):
        resolve(SearchConfig, None, ["iterations=0", "top_k=-1"], {})


@dataclasses.dataclass
class Ranges:
    share: float = option(0.5, ge=0, lt=1)
    rate: float = option(0.5, gt=0, le=10_000)
    count: int | None = option(None, ge=2)
    free: float = option(0.0)
    name: str = option("x")


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("share", -0.1, "--share -0.1: 0 or more and below 1 is needed"),
        ("share", 1.0, "--share 1.0: 0 or more and below 1 is needed"),
        ("share", 0.0, ""),
        ("rate", 0.0, "--rate 0.0: more than 0 and at most 10,000 is needed"),
        ("rate", 10_001.0, "--rate 10001.0: more than 0 and at most 10,000 is needed"),
        ("rate", 10_000.0, ""),
        ("count", 1, "--count 1: at least 2 is needed"),
        ("count", None, ""),
        ("free", float("inf"), "--free inf: a finite number is needed"),
        ("free", float("nan"), "--free nan: a finite number is needed"),
        ("share", float("nan"), "--share nan: 0 or more and below 1 is needed"),
        ("free", -1e300, ""),
    ],
)
def test_ranges_are_those_of_the_field(field: str, value: float | None, says: str) -> None:
    if not says:
        check_ranges(Ranges(**{field: value}))
        assert getattr(resolve(Ranges, {field: value}, [], {}), field) == value
        return
    for refuse in (lambda: check_ranges(Ranges(**{field: value})), lambda: resolve(Ranges, {field: value}, [], {})):
        with pytest.raises(ConfigError) as caught:
            refuse()
        assert str(caught.value) == says


def test_an_option_knows_no_other_limits() -> None:
    with pytest.raises(TypeError, match="least"):
        option(1, least=0)


def test_a_flag_is_the_field_with_hyphens() -> None:
    assert flag_of("batch_size") == "--batch-size"
    assert resolve(SearchConfig, None, ["batch-size=4", "top_k=2"], {}).batch_size == 4
