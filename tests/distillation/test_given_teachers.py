"""Teachers whose weights are given: ensembles, and networks of other classes than the data's."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import diswot
from diswot.config import DistillConfig
from diswot.data import load_data
from diswot.distillation.teacher_networks import given_teacher
from diswot.errors import ConfigError, TeacherError
from diswot.models.class_map import read_class_map
from diswot.models.zoo import ZOO
from diswot.observe import observe
from tests.distillation.samples import QUICK, same_students, stop_after
from tests.trained import ARCH

HALF = ".5,.5,.5/.5,.5,.5"
ONE_TO_ONE = "teacher_classes: [ant, bee, cow, dog, eel]\nclasses: {0: bee, 1: eel, 2: 0, 3: [dog]}"
GROUPS = "teacher_classes: 5\nclasses: {0: [1, 4], 1: 0, 2: 2, 3: 3}"


def _weights(path: Path, name: str = "resnet8", num_classes: int = 4, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    torch.save(ZOO[name](num_classes=num_classes).state_dict(), path)
    return path


@pytest.fixture
def two_files(tmp_path: Path) -> str:
    return f"{_weights(tmp_path / 'a.pth', seed=1)}+{_weights(tmp_path / 'b.pth', 'resnet14', seed=2)}"


def _logits(config: DistillConfig, pixels: torch.Tensor, data: str) -> torch.Tensor:
    network = given_teacher(config, load_data(data), {"logits"})
    with torch.no_grad():
        return network.model.eval()(network.normalise(pixels))


def test_an_ensemble_answers_with_the_mean_of_its_logits(small_npz: Path, two_files: str) -> None:
    """Each network sees its images by its own normalisation."""
    pixels = torch.rand(5, 3, 16, 16)
    config = DistillConfig(teacher="resnet8+resnet14", teacher_weights=two_files, teacher_norm=f"imagenet+{HALF}")
    alone = [
        replace(config, teacher=name, teacher_weights=weights, teacher_norm=norm)
        for name, weights, norm in zip(("resnet8", "resnet14"), two_files.split("+"), ("imagenet", HALF), strict=True)
    ]
    first, second = (_logits(one, pixels, str(small_npz)) for one in alone)
    assert not torch.allclose(first, second)
    torch.testing.assert_close(_logits(config, pixels, str(small_npz)), (first + second) / 2)


@pytest.mark.slow
def test_a_student_of_an_ensemble_is_resumed_to_the_same_bits(
    tmp_path: Path, small_npz: Path, two_files: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**QUICK, "data": str(small_npz), "teacher": "resnet8 + resnet14", "teacher_weights": two_files, "loss": "kd; dkd"}
    whole = diswot.distill(ARCH, folder=tmp_path / "whole", **options)
    assert whole.taught_by == "resnet8 + resnet14" and whole.teacher is not None
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(1, patch)
        diswot.distill(ARCH, folder=tmp_path / "cut", **options)
    diswot.resume(tmp_path / "cut", device="cpu")
    assert same_students(tmp_path / "cut", tmp_path / "whole")


def test_a_changed_member_is_noticed(tmp_path: Path, small_npz: Path, two_files: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {**QUICK, "data": str(small_npz), "teacher": "resnet8+resnet14", "teacher_weights": two_files}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(1, patch)
        diswot.distill(ARCH, folder=tmp_path / "cut", **options)
    _weights(Path(two_files.split("+")[1]), "resnet14", seed=9)
    with pytest.raises(TeacherError, match="not the file this run began with"):
        diswot.resume(tmp_path / "cut", device="cpu")


@pytest.mark.parametrize("mapping", [ONE_TO_ONE, GROUPS])
def test_classes_that_are_mapped(tmp_path: Path, small_npz: Path, mapping: str) -> None:
    """Against the definition: the probability of a class is the sum of those that it stands for, of all that are mapped."""
    weights, path = _weights(tmp_path / "five.pth", num_classes=5), tmp_path / "map.yaml"
    path.write_text(mapping)
    groups = [[1], [4], [0], [3]] if mapping is ONE_TO_ONE else [[1, 4], [0], [2], [3]]
    pixels = torch.rand(3, 3, 16, 16)
    config = DistillConfig(teacher="resnet8", teacher_weights=str(weights), teacher_norm="half", teacher_classes=str(path))
    found = _logits(config, pixels, str(small_npz)).softmax(1)
    model = ZOO["resnet8"](num_classes=5).eval()
    model.load_state_dict(torch.load(weights, weights_only=True))
    with torch.no_grad():
        raw = model((pixels - 0.5) / 0.5)
    for image in range(3):
        shares = [sum(math.exp(raw[image, number]) for number in group) for group in groups]
        assert found[image].tolist() == pytest.approx([share / sum(shares) for share in shares], rel=1e-4)


def test_one_class_for_each_leaves_a_linear_classifier(tmp_path: Path, small_npz: Path) -> None:
    weights, path = _weights(tmp_path / "five.pth", num_classes=5), tmp_path / "map.yaml"
    path.write_text(ONE_TO_ONE)
    config = DistillConfig(teacher="resnet8", teacher_weights=str(weights), teacher_classes=str(path))
    seen = observe(given_teacher(config, load_data(str(small_npz)), {"features", "weight"}).model, torch.rand(2, 3, 16, 16))
    assert torch.equal(seen.weight, torch.load(weights, weights_only=True)["fc.weight"][[1, 4, 0, 3]])
    assert seen.features.shape == (2, 64, 4, 4) and seen.logits.shape == (2, 4)


def test_every_loss_but_that_of_the_weight_takes_a_mapped_teacher(tmp_path: Path, small_npz: Path) -> None:
    weights, path = _weights(tmp_path / "five.pth", num_classes=5), tmp_path / "map.yaml"
    options = {**QUICK, "data": str(small_npz), "teacher_weights": str(weights), "teacher_classes": str(path), "epochs": 1}
    path.write_text(GROUPS)
    for number, loss in enumerate(("kd", "rkd", "kd+fitnets")):
        assert diswot.distill(ARCH, folder=tmp_path / f"groups-{number}", loss=loss, **options).teacher is not None
    with pytest.raises(ConfigError, match="the teacher shows no classifier"):
        diswot.distill(ARCH, folder=tmp_path / "refused", loss="diswot", **options)
    path.write_text(ONE_TO_ONE)
    assert diswot.distill(ARCH, folder=tmp_path / "one", loss="diswot", **options).teacher is not None


def test_imagenets_classes_have_many_names(tmp_path: Path) -> None:
    path = tmp_path / "map.yaml"
    path.write_text("classes: {cat: [tabby, tabby cat, n02123159], dog: golden retriever}")
    with pytest.raises(TeacherError, match="class 281 of the teacher is named twice"):
        read_class_map(path).for_teacher(1000).groups(["cat", "dog"])
    path.write_text("classes: {cat: [tabby, n02123159], dog: golden retriever}")
    assert read_class_map(path).for_teacher(1000).groups(["dog", "cat"]) == [[207], [281, 282]]


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        ("classes: [a, b]", "what it may hold"),
        ("classes: {0: 1, 1: 2, 2: 3, 3: 4}", "how many classes the teacher knows is needed"),
        ("classes: {0: 1}\nteacher_classes: 5", "3 of the data's classes are not in it, such as '1'"),
        ("classes: {0: 1, 1: 2, 2: 3, 3: 4, 33: 0}\nteacher_classes: 5", "the data has no class '33'"),
        ("classes: {0: 1, 1: 2, 2: 3, 3: 5}\nteacher_classes: 5", "no class 5: it knows 0 to 4"),
        ("classes: {0: 1, 1: 2, 2: 3, 3: 1}\nteacher_classes: 5", "class 1 of the teacher is named twice"),
        ("classes: {0: ant, 1: 2, 2: 3, 3: 1}\nteacher_classes: 5", "no class 'ant': write its number"),
        ("classes: {0: ann, 1: 2, 2: 3, 3: 1}\nteacher_classes: [ant, b, c, d]", "did you mean ant"),
        ("classes: {0: [], 1: 2}", "a name or a number of the teacher's class"),
        ("classes: {0: 1}\nteacher_classes: true", "the names of the teacher's classes in order, or their number"),
        ("classes: {yes: 1}", "True is no name of a class: put it in quotes"),
        ("classes: {0: 1", "no readable YAML"),
        ("classes: {0: !!python/name:os.system , 1: 2}", "no readable YAML"),
        ("{0: 1}", "what it may hold"),
    ],
)
def test_mappings_that_cannot_be(tmp_path: Path, small_npz: Path, mapping: str, says: str) -> None:
    path = tmp_path / "map.yaml"
    path.write_text(mapping)
    weights = str(_weights(tmp_path / "five.pth", num_classes=5))
    with pytest.raises(TeacherError, match=says) as raised:
        diswot.distill(ARCH, folder=tmp_path / "run", data=str(small_npz), teacher_weights=weights, teacher_classes=str(path), **QUICK)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"teacher_weights": None}, ConfigError, "an ensemble is not trained first"),
        ({"teacher_weights": "a+b+c"}, ConfigError, "3 values for 2 networks"),
        ({"teacher_norm": "half+half+half"}, ConfigError, "3 values for 2 networks"),
        ({"loss": "rkd"}, ConfigError, "an ensemble shows logits alone, rkd looks at pooled: use a loss of logits, as kd"),
        ({"loss": "kd; diswot"}, ConfigError, "diswot looks at features and weight"),
        ({"teacher": "resnet8+resnet99"}, TeacherError, "unknown teacher 'resnet99'"),
        ({"teacher": "resnet8+self"}, TeacherError, "unknown teacher 'self'"),
        ({"teacher": "resnet8", "teacher_weights": None, "teacher_classes": "x.yaml"}, ConfigError, "leave it out, or give weights"),
        ({"teacher": "resnet8", "teacher_weights": "pretrained", "teacher_classes": "x.yaml"}, TeacherError, "x.yaml: no such file"),
    ],
)
def test_what_no_ensemble_can_do(
    tmp_path: Path, small_npz: Path, two_files: str, options: dict[str, object], error: type[Exception], says: str
) -> None:
    base = {**QUICK, "data": str(small_npz), "teacher": "resnet8+resnet14", "teacher_weights": two_files}
    with pytest.raises(error, match=says):
        diswot.distill(ARCH, folder=tmp_path / "run", **{**base, **options})
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_search_has_one_teacher() -> None:
    with pytest.raises(TeacherError, match="an ensemble teaches in distill and compare"):
        diswot.score(["resnet8"], teacher="resnet56+resnet110", proxy="diswot")
