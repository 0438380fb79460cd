"""After training: measuring, naming, exporting, comparing."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from scipy import stats

import diswot
from diswot import api
from diswot.architecture import Architecture
from diswot.benchmarks.convert import Row
from diswot.errors import ConfigError, DataError, TeacherError
from diswot.export import run_export
from diswot.inference import run_evaluate, run_predict, student_model
from diswot.models.zoo import ZOO
from diswot.space import Cost
from diswot.training.loop import Trainer

QUICK = {"epochs": 2, "batch_size": 16, "lr": 0.02}
ARCH = Architecture("resnet_depth", {"depths": [1, 1, 1]})


@pytest.fixture
def student(tmp_path: Path, small_npz: Path) -> Path:
    """Trained until it tells the colours apart."""
    diswot.train(ARCH, folder=tmp_path / "run", data=str(small_npz), **{**QUICK, "epochs": 8})
    return tmp_path / "run" / "student"


def test_a_student_measures_as_it_did_after_training(student: Path, small_npz: Path) -> None:
    line = json.loads((student.parent / "metrics.jsonl").read_text().splitlines()[-1])
    found = run_evaluate(str(student.parent), str(small_npz))
    assert found.split == "test" and found.accuracy.top1 == line["test_top1"]
    assert run_evaluate(str(student), str(small_npz), split="train").accuracy.count == 80


def coloured_folders(root: Path, names: list[str]) -> Path:
    """Eight files for each class, each class of a colour of its own wherever it stands."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for name in names:
        for number in range(8):
            (root / name).mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 120, (16, 16, 3)) + 130 * np.eye(4, 3)[["cat", "dog", "elk", "fox"].index(name)]
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{number}.png")
    return root


def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    names = ["cat", "dog", "elk", "fox"]
    data = coloured_folders(tmp_path / "all", names)
    diswot.train(ARCH, folder=tmp_path / "run", data=str(data), input_size=16, epochs=12, batch_size=8, lr=0.02, val_fraction=0.2)
    student = str(tmp_path / "run")
    assert run_evaluate(student, str(data)).accuracy.top1 == 100
    assert run_evaluate(student, str(coloured_folders(tmp_path / "some", ["dog", "fox"]))).accuracy.top1 == 100
    (tmp_path / "some" / "fox").rename(tmp_path / "some" / "gnu")
    with pytest.raises(DataError, match="does not know its class 'gnu'; it knows 'cat, dog, elk, fox'"):
        run_evaluate(student, str(tmp_path / "some"))


def test_a_student_knows_how_its_images_are_cut(tmp_path: Path) -> None:
    data = coloured_folders(tmp_path / "all", ["cat", "dog"])
    options = {"input_size": 8, "epochs": 1, "batch_size": 8, "lr": 0.02, "val_fraction": 0.25, "crop_pct": 0.5}
    diswot.train(ARCH, folder=tmp_path / "run", data=str(data), **options)  # type: ignore[arg-type]
    model = student_model(tmp_path / "run")
    assert model.crop_pct == 0.5
    image = tmp_path / "edge.png"
    from PIL import Image

    pixels = np.full((16, 16, 3), 255, np.uint8)
    pixels[4:12, 4:12] = 50
    Image.fromarray(pixels).save(image)
    Image.fromarray(np.full((16, 16, 3), 50, np.uint8)).save(tmp_path / "plain.png")
    framed, plain = run_predict(model, [image, tmp_path / "plain.png"])
    assert dict(framed.classes) == pytest.approx(dict(plain.classes)), "the frame is cut off"


def test_images_are_upright_and_of_eight_bits(tmp_path: Path) -> None:
    from PIL import Image

    from diswot.data.images import to_rgb

    pixels = np.arange(12 * 3, dtype=np.uint8).reshape(4, 3, 3) * 7
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as image:
        assert (np.asarray(to_rgb(image)) == np.rot90(pixels, -1)).all()
    deep = (np.arange(12, dtype=np.uint16) * 5000).reshape(4, 3)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    with Image.open(tmp_path / "deep.png") as image:
        assert (np.asarray(to_rgb(image))[:, :, 0] == deep // 256).all()


def test_a_named_network_is_measured_with_its_weights(tmp_path: Path, small_npz: Path) -> None:
    model = ZOO["resnet8"](num_classes=4).eval()
    torch.save(model.state_dict(), tmp_path / "w.pth")
    found = run_evaluate("resnet8", str(small_npz), weights=str(tmp_path / "w.pth"), norm="half")
    with np.load(small_npz) as arrays:
        images, labels = torch.from_numpy(arrays["x_test"]).permute(0, 3, 1, 2) / 255, torch.from_numpy(arrays["y_test"])
    assert found.accuracy.top1 == pytest.approx(100 * float((model((images - 0.5) / 0.5).argmax(1) == labels).float().mean()))


def test_the_real_teacher_measures_as_published(real_data: Path, cifar10_test: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    images, labels = cifar10_test
    np.savez(tmp_path / "c10.npz", x_train=images[:100], y_train=labels[:100], x_test=images[:2000], y_test=labels[:2000])
    weights = str(real_data / "teachers" / "resnet20-12fca82f.th")
    found = run_evaluate("resnet20_pad", str(tmp_path / "c10.npz"), weights=weights, norm="imagenet")
    assert found.accuracy.interval[0] <= 91.73 <= found.accuracy.interval[1]


def test_images_are_named(student: Path, tmp_path: Path, diswot) -> None:  # type: ignore[no-untyped-def]
    """Images of the classes' colours, of other sizes and modes."""
    for label, colour in enumerate([(190, 60, 60), (60, 190, 60), (60, 60, 190), (60, 60, 60)]):
        Image.new("RGB", (33, 21), colour).save(tmp_path / f"{label}.png")
    found = run_predict(student_model(student), [tmp_path / f"{label}.png" for label in range(4)])
    assert [one.classes[0][0] for one in found] == ["0", "1", "2", "3"]
    for one in found:
        shares = [share for _, share in one.classes]
        assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(1, abs=1e-5) and len(shares) == 4
    Image.new("L", (8, 8), 9).save(tmp_path / "grey.png")
    code, out, _ = diswot("predict", str(student), "0.png", "grey.png", "--top", "2")
    assert code == 0 and out.startswith("0.png: 0 ") and len(out.splitlines()) == 2
    brief_repr = json.loads(diswot("predict", str(student), "0.png", "--json")[1])
    assert brief_repr[0]["classes"][0]["name"] == "0"


@pytest.mark.parametrize("name", ["student.onnx", "student.pt2", "student"])
def test_what_is_exported_computes_the_same(student: Path, tmp_path: Path, name: str) -> None:
    """Loaded by the package it is for, on another batch size than it was made with."""
    model = diswot.load_student(student)
    images = torch.randn(5, 3, 16, 16)
    expected = model(images)
    written = run_export(student_model(student), tmp_path / name)
    assert written.difference < 1e-5 and written.path == tmp_path / name
    if name.endswith(".onnx"):
        import onnx
        import onnxruntime

        session = onnxruntime.InferenceSession(str(written.path), providers=["CPUExecutionProvider"])
        found = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
        props = {entry.key: json.loads(entry.value) for entry in onnx.load(str(written.path)).metadata_props}
        assert props["class_names"] == ["0", "1", "2", "3"] and props["mean"] == pytest.approx(model.pretrained_cfg["mean"])
    elif name.endswith(".pt2"):
        found = torch.export.load(str(written.path)).module()(images)
    else:
        assert {path.name for path in written.path.iterdir()} == {"arch.json", "config.json", "model.safetensors"}
        found = diswot.load_student(written.path)(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not list(tmp_path.glob(".tmp*")) and not list(tmp_path.glob("*.data"))


def test_timm_loads_a_students_folder(student: Path) -> None:
    timm = pytest.importorskip("timm")
    if not hasattr(timm.models._hub, "load_model_config_from_path"):
        pytest.skip("this timm does not know local-dir:")
    import diswot.models.student

    model = timm.create_model(f"local-dir:{student}", pretrained=True).eval()
    images = torch.randn(3, 3, 16, 16)
    torch.testing.assert_close(model(images), diswot.load_student(student)(images))
    assert model.pretrained_cfg["input_size"] == [3, 16, 16] and model.pretrained_cfg["label_names"] == ["0", "1", "2", "3"]


def test_a_wrong_export_is_not_kept(student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diswot.recipes import deploy

    monkeypatch.setattr(deploy, "_export_torch", lambda model, net, images, target: target.write_text("x") * 0 + torch.zeros(2, 4))
    with pytest.raises(ConfigError, match="not written, its outputs differ"):
        run_export(student_model(student), tmp_path / "student.pt2")
    assert not list(tmp_path.glob("*student.pt2"))


def test_what_cannot_be_used_is_said(student: Path, small_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "there").mkdir()
    model = student_model(student)
    with np.load(small_npz) as arrays:
        np.savez(tmp_path / "wide.npz", x_train=np.zeros((8, 8, 8, 3), np.uint8), y_train=np.arange(8) % 2)
        np.savez(tmp_path / "more.npz", x_train=arrays["x_train"], y_train=np.arange(80) % 9)
    cases = [
        (lambda: student_model(tmp_path), ConfigError, "no student is there"),
        (lambda: run_predict(model, [tmp_path / "none.png"]), DataError, "no such image"),
        (lambda: run_predict(model, [tmp_path / "text.png"]), DataError, "not a readable image"),
        (lambda: run_export(model, tmp_path / "there"), ConfigError, "exists"),
        (lambda: run_export(model, tmp_path / "a.tflite"), ConfigError, "ending in .onnx, .pt2"),
        (lambda: run_export(model, tmp_path / "no" / "a.onnx"), ConfigError, "there is no folder"),
        (lambda: run_evaluate(str(student), str(tmp_path / "wide.npz")), DataError, "8x8x3; the student takes 16x16x3"),
        (lambda: run_evaluate(str(student), str(tmp_path / "more.npz")), DataError, "9 classes; the student knows 4"),
        (lambda: run_evaluate(str(student), str(tmp_path / "wide.npz"), split="test"), DataError, "no test images"),
        (lambda: run_evaluate(str(student), str(small_npz), norm="half"), ConfigError, "--norm: a student knows its own"),
        (lambda: run_evaluate(str(student), str(small_npz), weights="w.pth"), ConfigError, "--weights: .* is a student's folder"),
        (lambda: run_evaluate("resnet8", str(small_npz), weights="w.pth", crop_pct=2.0), TeacherError, "no such weights file"),
        (lambda: run_predict(model, [tmp_path]), DataError, "a folder; name the images in it"),
        (lambda: run_export(model, Path("/proc/a.pt2")), ConfigError, "/proc: nothing can be written there"),
    ]
    for call, error, says in cases:
        with pytest.raises(error, match=says):
            call()
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigError, match=r"pip install 'diswot\[export\]'"):
        run_export(model, tmp_path / "a.onnx")


def test_evaluate_and_export_from_the_command_line(student: Path, small_npz: Path, diswot) -> None:  # type: ignore[no-untyped-def]
    code, out, err = diswot("evaluate", str(student), "--data", str(small_npz))
    assert code == 0 and "top-1" in out and "40 images" in out, err
    assert set(json.loads(diswot("evaluate", str(student), "--data", str(small_npz), "--json")[1])) >= {
        "top1",
        "top5",
        "interval",
        "images",
    }
    code, out, err = diswot("export", str(student), "out")
    assert code == 0 and "local-dir:out" in out, err
    code, _, err = diswot("export", str(student), "out")
    assert code == 2 and "out exists" in err


# comparing


def rows(first: list[float], second: list[float]) -> tuple[Row, Row]:
    cost = Cost(1, 1, 1)
    return Row("a", ARCH, first, cost, 1.0), Row("b", ARCH, second, cost, 1.0)


def test_the_interval_of_a_difference_is_scipys() -> None:
    a, b = [71.2, 70.8, 71.9, 71.1], [70.1, 70.6, 70.9, 70.2]
    first, second = rows(a, b)
    mean, width = first.ahead_of(second)
    interval = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (mean - width, mean + width) == pytest.approx((interval.low, interval.high))
    assert first.spread == pytest.approx(np.std(a, ddof=1))
    one, other = rows([71.0], [70.0])
    assert one.ahead_of(other)[0] == 1.0 and math.isnan(one.ahead_of(other)[1]) and math.isnan(one.spread)


def test_a_comparison_is_the_single_runs(tmp_path: Path, small_npz: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off in its second seed and resumed; each student as if trained alone with that seed."""
    torch.save(ZOO["resnet8"](num_classes=4).state_dict(), tmp_path / "w.pth")
    options = {**QUICK, "data": str(small_npz), "teacher": "resnet8", "teacher_weights": str(tmp_path / "w.pth")}
    real, calls = Trainer.epoch, 0

    def fail(self: Trainer, number: int) -> dict[str, float]:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return real(self, number)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "epoch", fail)
        diswot.compare([ARCH, "resnet14"], folder=tmp_path / "c", seeds=2, seed=5, **options)  # type: ignore[arg-type]
    found = api.resume_compare(tmp_path / "c", "cpu")(None)
    assert [row.name for row in found.rows] == [ARCH.digest, "resnet14"]
    assert found.rows[1].cost.params > found.rows[0].cost.params and len(found.teacher) == 2
    for arch, row in zip((ARCH, "resnet14"), found.rows, strict=True):
        for place, seed in enumerate((5, 6)):
            alone = diswot.distill(arch, folder=tmp_path / f"{row.name}-{seed}", seed=seed, **options)  # type: ignore[arg-type]
            assert row.top1[place] == alone.student.top1
            kept = load_file(tmp_path / "c" / f"seed-{seed}" / "students" / row.name / "model.safetensors")
            theirs = load_file(alone.students[0].folder / "model.safetensors")
            assert all(torch.equal(kept[name], value) for name, value in theirs.items())


def test_compare_from_the_command_line(small_npz: Path, diswot) -> None:  # type: ignore[no-untyped-def]
    options = ["--data", str(small_npz), "--loss", "none", "--epochs", "1", "--batch-size", "16", "--seeds", "2", "--quiet"]
    code, out, err = diswot("compare", "resnet8", "resnet14", *options, "--name", "c")
    assert code == 0 and "resnet14" in out and "±" in out and "ahead" in out, err
    found = json.loads(diswot("compare", "--resume", "runs/c", "--json", "--quiet")[1])
    assert [len(row["top1"]) for row in found["students"]] == [2, 2] and found["students"][0]["difference"] is None
    code, _, err = diswot("compare", "resnet8", *options)
    assert code == 2 and "two students at least" in err
