"""Teachers: the CIFAR zoo, timm's networks, networks of one's own, and the weights files they are given."""

from __future__ import annotations

import importlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from diswot.data.images import ArrayImages
from diswot.errors import ConfigError, TeacherError
from diswot.models.teachers import NORMS, build_teacher, normalisation, teacher_cost
from diswot.models.weights import load_weights, read_weights
from diswot.models.zoo import ZOO, zoo_name
from diswot.observe import batch_statistics, observe
from diswot.space import ImageSpec
from diswot.training.evaluation import Network, Normalise, evaluate

CIFAR10 = ImageSpec(10, 3, 32)
PUBLISHED_PARAMS = {  # RepDistiller's zoo at 100 classes
    "resnet8x4": 1_233_540,
    "resnet32x4": 7_433_860,
    "wrn_16_2": 703_284,
    "wrn_40_2": 2_255_156,
    "vgg8": 3_965_028,
    "vgg13": 9_462_180,
    "mobilenetv2": 812_836,
    "shufflenetv1": 949_258,
    "shufflenetv2": 1_355_528,
}


@pytest.mark.parametrize(("name", "params"), PUBLISHED_PARAMS.items())
def test_the_zoo_has_the_published_sizes(name: str, params: int) -> None:
    assert sum(p.numel() for p in ZOO[name]().parameters()) == params


def test_the_zoo_is_registered_with_timm() -> None:
    import timm

    importlib.import_module("diswot.models.timm_zoo")
    for name in ZOO:
        assert timm.is_model(f"cifar_{name}")
    model = timm.create_model("cifar_wrn_16_1", num_classes=7, in_chans=1)
    assert model(torch.zeros(2, 1, 32, 32)).shape == (2, 7)
    assert [info["num_chs"] for info in model.feature_info] == [16, 32, 64]


def test_names_of_the_zoo_are_spelt_freely() -> None:
    assert zoo_name("WRN-40-2") == zoo_name("wrn40_2") == "wrn_40_2"
    assert zoo_name("ShuffleNetV2") == "shufflenetv2"


TIMM = [
    "resnet10t", "mobilenetv3_small_050", "convnext_atto", "efficientnet_b0", "regnetx_002", "densenet121",
    "swin_tiny_patch4_window7_224", "vit_tiny_patch16_224", "deit_tiny_patch16_224", "mixer_s32_224",
]  # fmt: skip


@pytest.mark.parametrize("name", TIMM)
def test_any_timm_network_is_observed_as_it_computes(name: str) -> None:
    side = 64
    model = build_teacher(f"timm/{name}", ImageSpec(10, 3, side)).eval()
    images = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        seen = observe(model, images)
        torch.testing.assert_close(seen.logits, model(images))
    assert seen.features.ndim == 4
    assert seen.pooled.shape[1] == seen.weight.shape[1]


def test_tokens_become_a_map_in_reading_order() -> None:
    model = build_teacher("vit_tiny_patch16_224", ImageSpec(10, 3, 64)).eval()
    images = torch.randn(1, 3, 64, 64)
    tokens, features = model.forward_features(images), observe(model, images).features
    assert features.shape == (1, 192, 4, 4)
    assert tokens.shape == (1, 17, 192)  # one class token before the 16 patches
    for row in range(4):
        for column in range(4):
            torch.testing.assert_close(features[0, :, row, column], tokens[0, 1 + 4 * row + column])


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("resnet65", TeacherError, "unknown teacher 'resnet65': did you mean resnet"),
        ("mylab_nowhere:net", ConfigError, "'mylab_nowhere:net' cannot be imported .*: is its folder on PYTHONPATH"),
        ("torch.nn:Idenity", ConfigError, "has no 'Idenity': did you mean Identity"),
        ("collections:Counter", TeacherError, "'collections:Counter' gave Counter, not a torch.nn.Module"),
        ("torch.nn:Linear", TeacherError, "'torch.nn:Linear' cannot be made .*: it is called with num_classes and in_chans"),
        ("torch.nn:Identity", TeacherError, "does not end in a linear layer"),
    ],
)
def test_unknown_teachers_are_named(name: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        build_teacher(name, CIFAR10)


def test_a_teacher_that_cannot_take_the_images_says_so() -> None:
    with pytest.raises(TeacherError, match="32x32"):
        build_teacher("inception_v3", CIFAR10)


def plain_weights(name: str = "resnet8", classes: int = 10) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {k: torch.randn_like(v) if v.is_floating_point() else v for k, v in ZOO[name](num_classes=classes).state_dict().items()}


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "model", "net", "module", "linear", "safetensors"])
def test_the_usual_shapes_of_checkpoints_load(tmp_path: Path, wrap: str) -> None:
    weights = plain_weights()
    path = tmp_path / ("w.safetensors" if wrap == "safetensors" else "w.pth")
    content: object = weights
    if wrap in ("state_dict", "model", "net"):
        content = {wrap: weights, "epoch": 3, "best": 0.5}
    elif wrap == "module":
        content = {"state_dict": {f"module.{k}": v for k, v in weights.items()}}
    elif wrap == "linear":
        content = {k.replace("fc.", "linear."): v for k, v in weights.items()}
    if wrap == "safetensors":
        save_file(weights, path)
    else:
        torch.save(content, path)
    model = build_teacher("resnet8", CIFAR10, str(path))
    for key, value in model.state_dict().items():
        assert torch.equal(value, weights[key]), key


class Payload:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return (Path.touch, (self.marker,))


def test_a_pickle_disguised_as_weights_is_refused_and_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "was-here"
    pickle.loads(pickle.dumps(Payload(marker)))
    marker.unlink()  # it would be there
    for name, protocol in (("old.pth", 2), ("new.pth", 4), ("x.safetensors", 4)):
        (tmp_path / name).write_bytes(pickle.dumps({"state_dict": Payload(marker)}, protocol))
        with pytest.raises(TeacherError):
            read_weights(tmp_path / name)
    torch.save({"state_dict": Payload(marker)}, tmp_path / "zip.pth")
    with pytest.raises(TeacherError, match="refused"):
        read_weights(tmp_path / "zip.pth")
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 half a zip"])
def test_damaged_weights_are_named(tmp_path: Path, content: bytes) -> None:
    for name in ("w.pth", "w.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(TeacherError, match="w\\."):
            read_weights(tmp_path / name)
    with pytest.raises(TeacherError, match="no such"):
        read_weights(tmp_path / "none.pth")


def test_weights_that_do_not_fit_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(plain_weights("resnet8", classes=7), path)
    with pytest.raises(TeacherError, match="know 7 classes, the data has 10"):
        build_teacher("resnet8", CIFAR10, str(path))
    torch.save(plain_weights("resnet8_pad"), path)
    with pytest.raises(TeacherError, match="use resnet8_pad"):
        build_teacher("resnet8", CIFAR10, str(path))
    torch.save(plain_weights("resnet8"), path)
    with pytest.raises(TeacherError, match=r"use resnet8$"):
        build_teacher("resnet8_pad", CIFAR10, str(path))
    with pytest.raises(TeacherError, match=r"missing layer1\.1.* more"):
        build_teacher("resnet14", CIFAR10, str(path))
    torch.save({"a": 1}, path)
    with pytest.raises(TeacherError, match="no tensors"):
        build_teacher("resnet8", CIFAR10, str(path))


def test_weights_that_do_not_fit_leave_the_model_alone(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(plain_weights("resnet14"), path)
    model = ZOO["resnet8"](num_classes=10)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(TeacherError):
        load_weights(model, path, "resnet8")
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_normalisation_reads_numbers() -> None:
    mean, std = torch.zeros(3), torch.ones(3)
    assert normalisation("data", mean, std)[0] is mean
    assert normalisation("0.1,0.2,0.3/1,2,4", mean, std)[1].tolist() == [1, 2, 4]
    for bad in ("imagenett", "1,2/3,4", "0,0,0/1,0,1", "0,0,0"):
        with pytest.raises(TeacherError, match="--teacher-norm"):
            normalisation(bad, mean, std)


def test_batch_statistics_leave_the_running_ones_alone() -> None:
    model = ZOO["resnet8"](num_classes=10)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    images = torch.randn(8, 3, 32, 32) * 5 + 3
    with batch_statistics(model):
        seen = model(images)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    torch.testing.assert_close(seen, model.train()(images))  # there is no dropout here, so training mode computes the same
    assert not torch.equal(model.state_dict()["bn1.running_mean"], before["bn1.running_mean"]), "and training still updates them"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "file", "published", "count", "within"),
    [("resnet56_pad", "resnet56-4bfd9763.th", 93.39, 2_000, 1.5), ("resnet20_pad", "resnet20-12fca82f.th", 91.73, 10_000, 0.1)],
)
def test_real_teachers_reach_their_published_accuracy(
    real_data: Path, cifar10_test: tuple[np.ndarray, np.ndarray], name: str, file: str, published: float, count: int, within: float
) -> None:
    """Of the larger one some images are enough: 1.5 points are what so many may differ by."""
    images, labels = (values[:count] for values in cifar10_test)
    model: nn.Module = build_teacher(name, CIFAR10, str(real_data / "teachers" / file))
    mean, std = (torch.tensor(values) for values in NORMS["imagenet"])
    model.to(memory_format=torch.channels_last)
    accuracy = evaluate(Network(model, Normalise(mean, std)), ArrayImages(images, labels.astype(np.int64)), "cpu")
    assert accuracy.top1 == pytest.approx(published, abs=within)


def test_a_teacher_that_cannot_be_made_without_memory_is_counted_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks at its own weights while it is made, as one does that rescales or loads them."""
    monkeypatch.syspath_prepend(str(tmp_path))
    body = "    model = ZOO['resnet8'](num_classes=num_classes)\n    assert model.fc.weight.abs().max().item() > 0\n    return model\n"
    (tmp_path / "mylab_looks.py").write_text(f"from diswot.models.zoo import ZOO\n\ndef build(num_classes, in_chans):\n{body}")
    assert teacher_cost("mylab_looks:build", ImageSpec(10, 3, 32)) == teacher_cost("resnet8", ImageSpec(10, 3, 32))
