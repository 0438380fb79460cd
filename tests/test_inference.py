"""After training: how good a network is on other data, and what it sees in an image."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import diswot
from diswot.errors import ConfigError, DataError, TeacherError
from diswot.inference import EvaluateOptions, run_evaluate, run_predict, student_model
from diswot.models.zoo import ZOO
from tests.trained import ARCH, coloured_folders, train_student


@pytest.fixture
def student(tmp_path: Path, small_npz: Path) -> Path:
    return train_student(tmp_path / "run", small_npz)


def test_a_student_measures_as_it_did_after_training(student: Path, small_npz: Path) -> None:
    line = json.loads((student.parent / "metrics.jsonl").read_text().splitlines()[-1])
    found = run_evaluate(str(student.parent), str(small_npz), EvaluateOptions())
    assert found.split == "test" and found.accuracy.top1 == line["test_top1"]
    assert run_evaluate(str(student), str(small_npz), EvaluateOptions(split="train")).accuracy.count == 80


def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    names = ["cat", "dog", "elk", "fox"]
    data = coloured_folders(tmp_path / "all", names)
    diswot.train(ARCH, folder=tmp_path / "run", data=str(data), input_size=16, epochs=12, batch_size=8, lr=0.02, val_fraction=0.2)
    student = str(tmp_path / "run")
    assert run_evaluate(student, str(data), EvaluateOptions()).accuracy.top1 == 100
    assert run_evaluate(student, str(coloured_folders(tmp_path / "some", ["dog", "fox"])), EvaluateOptions()).accuracy.top1 == 100
    (tmp_path / "some" / "fox").rename(tmp_path / "some" / "gnu")
    with pytest.raises(DataError, match="does not know its class 'gnu'; it knows 'cat, dog, elk, fox'"):
        run_evaluate(student, str(tmp_path / "some"), EvaluateOptions())


def test_a_student_knows_how_its_images_are_cut(tmp_path: Path) -> None:
    data = coloured_folders(tmp_path / "all", ["cat", "dog"])
    options = {"input_size": 8, "epochs": 1, "batch_size": 8, "lr": 0.02, "val_fraction": 0.25, "crop_pct": 0.5}
    diswot.train(ARCH, folder=tmp_path / "run", data=str(data), **options)  # type: ignore[arg-type]
    model = student_model(tmp_path / "run")
    assert model.crop_pct == 0.5
    image = tmp_path / "edge.png"
    pixels = np.full((16, 16, 3), 255, np.uint8)
    pixels[4:12, 4:12] = 50
    Image.fromarray(pixels).save(image)
    Image.fromarray(np.full((16, 16, 3), 50, np.uint8)).save(tmp_path / "plain.png")
    framed, plain = run_predict(model, [image, tmp_path / "plain.png"])
    assert dict(framed.classes) == pytest.approx(dict(plain.classes)), "the frame is cut off"


def test_a_named_network_is_measured_with_its_weights(tmp_path: Path, small_npz: Path) -> None:
    model = ZOO["resnet8"](num_classes=4).eval()
    torch.save(model.state_dict(), tmp_path / "w.pth")
    found = run_evaluate("resnet8", str(small_npz), EvaluateOptions(weights=str(tmp_path / "w.pth"), norm="half"))
    with np.load(small_npz) as arrays:
        images, labels = torch.from_numpy(arrays["x_test"]).permute(0, 3, 1, 2) / 255, torch.from_numpy(arrays["y_test"])
    assert found.accuracy.top1 == pytest.approx(100 * float((model((images - 0.5) / 0.5).argmax(1) == labels).float().mean()))


@pytest.mark.slow
def test_the_real_teacher_measures_as_published(real_data: Path, cifar10_test: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    images, labels = cifar10_test
    np.savez(tmp_path / "c10.npz", x_train=images[:100], y_train=labels[:100], x_test=images[:2000], y_test=labels[:2000])
    weights = str(real_data / "teachers" / "resnet20-12fca82f.th")
    found = run_evaluate("resnet20_pad", str(tmp_path / "c10.npz"), EvaluateOptions(weights=weights, norm="imagenet"))
    assert found.accuracy.interval[0] <= 91.73 <= found.accuracy.interval[1]


def test_images_are_named(student: Path, tmp_path: Path, diswot: Any) -> None:
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
    predictions = json.loads(diswot("predict", str(student), "0.png", "--json")[1])
    assert predictions[0]["classes"][0]["name"] == "0"


def test_what_cannot_be_used_is_said(student: Path, small_npz: Path, teacher_file: Path, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty").mkdir()
    model = student_model(student)
    with np.load(small_npz) as arrays:
        np.savez(tmp_path / "wide.npz", x_train=np.zeros((8, 8, 8, 3), np.uint8), y_train=np.arange(8) % 2)
        np.savez(tmp_path / "more.npz", x_train=arrays["x_train"], y_train=np.arange(80) % 9)

    def measure(what: Path | str, data: Path, **options: Any) -> Callable[[], object]:
        return lambda: run_evaluate(str(what), str(data), EvaluateOptions(**options))

    cases: list[tuple[Callable[[], object], type[Exception], str]] = [
        (lambda: student_model(tmp_path), ConfigError, "no student is there"),
        (lambda: run_predict(model, [tmp_path / "none.png"]), DataError, "no such image"),
        (lambda: run_predict(model, [tmp_path / "text.png"]), DataError, "not a readable image"),
        (lambda: run_predict(model, [tmp_path / "empty"]), DataError, "a folder without images"),
        (measure(student, tmp_path / "wide.npz"), DataError, "8x8x3; the student takes 16x16x3"),
        (measure(student, tmp_path / "more.npz"), DataError, "9 classes; the student knows 4"),
        (measure(student, tmp_path / "wide.npz", split="test"), DataError, "--split test: .* no test images"),
        (measure(student, small_npz, split="val"), DataError, "--split val: .* the splits train and test"),
        (measure(student, small_npz, norm="half"), ConfigError, "--norm: a student knows its own"),
        (measure(student, small_npz, crop_pct=0.5), ConfigError, "--crop-pct: a student knows its own"),
        (measure(student, small_npz, weights="w.pth"), ConfigError, "--weights: .* is a student's folder"),
        (measure("resnet8", small_npz), ConfigError, "resnet8: no student is there"),
        (measure("resnet8", small_npz, weights="w.pth", crop_pct=2.0), TeacherError, "no such weights file"),
        (measure("resnet8", small_npz, weights=str(teacher_file), crop_pct=2.0), ConfigError, "--crop-pct 2.0: "),
        (measure("resnet8", small_npz, weights=str(teacher_file), norm="imagenett"), TeacherError, "--norm 'imagenett': write data"),
        (measure("resnet9", small_npz, weights="w.pth"), TeacherError, "did you mean resnet"),
    ]
    for call, error, says in cases:
        with pytest.raises(error, match=says):
            call()


def test_evaluate_from_the_command_line(student: Path, small_npz: Path, diswot: Any) -> None:
    code, out, err = diswot("evaluate", str(student), "--data", str(small_npz))
    assert code == 0 and "top-1" in out and "40 images" in out, err
    found = json.loads(diswot("evaluate", str(student), "--data", str(small_npz), "--json")[1])
    assert set(found) == {"data", "split", "top1", "top5", "interval", "images"}
    assert (found["split"], found["images"], found["top5"]) == ("test", 40, None)


def test_a_student_is_loaded_from_its_folder_or_that_of_its_run(tmp_path: Path, small_npz: Path) -> None:
    student = train_student(tmp_path / "run", small_npz)
    own, of_run = (diswot.load_student(folder).state_dict() for folder in (student, student.parent))
    assert all(torch.equal(value, of_run[name]) for name, value in own.items())
    with pytest.raises(ConfigError, match=r"no student is there \(a folder with arch.json and model.safetensors, as runs/NAME/student\)"):
        diswot.load_student(tmp_path)
