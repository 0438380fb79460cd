"""The verbs on one network: `show`, `evaluate`, `predict` and `export`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import rich_click as click

from diswot.cli.flags import own_space, running
from diswot.cli.progress import progress_shown
from diswot.errors import ConfigError, brief_repr

_MAX = 100_000  # classes, channels or pixels that a file may ask for


@click.command()
@click.argument("architecture", metavar="ARCHITECTURE")
@click.option("--num-classes", type=int, help="number of classes \\[the search's, else 100]")
@click.option("--input-size", type=int, help="side of the images in pixels \\[the search's, else the space's]")
@own_space
@running("device", "json")
def show(architecture: str, num_classes: int | None, input_size: int | None, space: str | None, device: str, as_json: bool) -> None:
    """Show a network: its parts, parameters, FLOPs, memory and latency.

    [bold]diswot show arch.json[/]
    """
    from diswot.cli import output
    from diswot.describe import describe
    from diswot.devices import choose_device
    from diswot.models.named import read_architecture
    from diswot.space import ImageSpec, load_space

    arch, provenance = read_architecture(architecture)
    found_space = load_space(arch.space, trusted=space == arch.space)
    searched = provenance.get("data")
    searched = searched if isinstance(searched, dict) else {}
    sizes = {
        "num-classes": num_classes if num_classes is not None else searched.get("num_classes", 100),
        "in-chans": searched.get("in_chans", 3),
        "input-size": input_size if input_size is not None else searched.get("input_size", found_space.input_size),
    }
    for name, value in sizes.items():
        if type(value) is not int or not 1 <= value <= _MAX:
            raise ConfigError(f"--{name} {brief_repr(value)}: a whole number from 1 to {_MAX:,} is needed")
    found = describe(found_space, arch, ImageSpec(*sizes.values()), choose_device(device))
    if as_json:
        click.echo(json.dumps(output.show_json(found)))
    else:
        output.show_table(output.show_architecture(found))


@click.command()
@click.argument("student", metavar="STUDENT")
@click.option("--data", required=True, help="images: see `diswot list data`")
@click.option("--split", type=click.Choice(["test", "train"]), help="which of them \\[test, where there is one]")
@click.option("--weights", help="weights of a network that is named: a file, or pretrained (timm's)")
@click.option("--norm", help="normalisation of a network that is named: data, imagenet, half, or m,m,m/s,s,s \\[data]")
@click.option("--data-dir", help="folder of the named data sets")
@click.option("--input-size", type=int, help="side in pixels that files are decoded to, for a network that is named")
@click.option("--crop-pct", type=float, help="fraction of the shorter side of an image file, for a network that is named \\[1]")
@own_space
@running("device", "json")
def evaluate(student: str, data: str, as_json: bool, device: str, **options: Any) -> None:
    """Measure a trained network: top-1 and top-5 accuracy.

    STUDENT is the folder that `distill` or `train` left, or, with --weights, the name of a network.

    [bold]diswot evaluate runs/NAME/student --data images.npz[/]

    [bold]diswot evaluate resnet56_pad --weights resnet56.th --norm imagenet --data cifar10[/]
    """
    with progress_shown(quiet=False) as reporter:
        reporter.within("loading torch")
        from diswot.devices import choose_device
        from diswot.inference import EvaluateOptions, run_evaluate

        found = run_evaluate(student, data, EvaluateOptions(**options), choose_device(device), reporter)
    from diswot.cli import output

    if as_json:
        click.echo(json.dumps(output.evaluate_json(found)))
        return
    top5 = "" if math.isnan(found.accuracy.top5) else f", top-5 {found.accuracy.top5:.2f} %"
    click.echo(f"{found.split} images of {found.data}: top-1 {found.accuracy}{top5}")


@click.command()
@click.argument("student", metavar="STUDENT")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--top", type=click.IntRange(min=1), default=5, help="number of classes to name \\[5]")
@click.option("--csv", "csv_file", help="write a line for each image into this file")
@own_space
@running("device", "json")
def predict(student: str, images: tuple[str, ...], top: int, csv_file: str | None, space: str | None, device: str, as_json: bool) -> None:
    """Name the likeliest classes of image files, and of all images in a folder.

    [bold]diswot predict runs/NAME/student cat.png dog.jpg[/]

    [bold]diswot predict runs/NAME/student photos --csv photos.csv[/]
    """
    if csv_file is not None and not Path(csv_file).resolve().parent.is_dir():
        raise ConfigError(f"--csv {brief_repr(csv_file)}: there is no folder {Path(csv_file).resolve().parent}")
    with progress_shown(quiet=False) as reporter:
        reporter.within("loading torch")
        from diswot import runs
        from diswot.devices import choose_device
        from diswot.inference import predictions_csv, run_predict, student_model

        model = student_model(student, space)
        reporter.within("looking at the images")
        found = run_predict(model, images, choose_device(device), top)
    if csv_file is not None:
        runs.write_atomic(Path(csv_file), predictions_csv(found))
        click.echo(f"{csv_file}: {len(found):,} images")
        return
    if as_json:
        click.echo(json.dumps([{"image": one.image, "classes": [{"name": n, "share": p} for n, p in one.classes]} for one in found]))
        return
    for prediction in found:
        click.echo(f"{prediction.image}: " + ", ".join(f"{name} {100 * share:.1f} %" for name, share in prediction.classes))


@click.command()
@click.argument("student", metavar="STUDENT")
@click.argument("target", metavar="TARGET")
@click.option("--precision", type=click.Choice(["fp32", "fp16", "int8"]), default="fp32", help="number format of an ONNX file \\[fp32]")
@click.option("--data", help="images that INT8 is calibrated by, and the accuracy before and after is measured on")
@click.option("--data-dir", help="folder of the named data sets")
@click.option("--calibration-images", type=click.IntRange(min=1), default=512, help="training images that INT8 is calibrated by \\[512]")
@own_space
def export(
    student: str, target: str, precision: str, data: str | None, data_dir: str | None, calibration_images: int, space: str | None
) -> None:
    """Write a student for others: NAME.onnx, NAME.pt2 (torch.export), or a folder with safetensors and a model
    card, which timm loads and the Hugging Face hub takes.

    What is written is run and compared with torch before it is kept. FP16 and INT8 are compared with float32: accuracy, size, latency.

    [bold]diswot export runs/NAME/student student.onnx[/]

    [bold]diswot export runs/NAME/student my-student[/]

    [bold]diswot export runs/NAME/student student-int8.onnx --precision int8 --data images.npz[/]
    """
    if precision == "fp32" and data is not None:
        raise ConfigError("--data: only --precision fp16 and int8 look at images; leave it out")
    reduced = None
    with progress_shown(quiet=False) as reporter:
        reporter.within("loading torch")
        from diswot.export import run_export
        from diswot.inference import student_model
        from diswot.quantization import run_reduced_export

        model = student_model(student, space)
        reporter.within("writing, running and comparing it")
        try:
            if precision != "fp32":
                reduced = run_reduced_export(model, Path(target), precision, data, calibration=calibration_images, data_dir=data_dir)
            written = reduced.written if reduced is not None else run_export(model, Path(target))
        except OSError as error:
            raise ConfigError(f"{brief_repr(target)}: {error.strerror}") from None
    if reduced is not None:
        from diswot.cli import output

        output.show_table(output.reduced_table(reduced))
    what = "float32's" if precision != "fp32" else "torch's"
    click.echo(f"{written.path}: {written.kind}, its outputs differ from {what} by {written.difference:.1g} of the largest")
    if written.kind == "timm":
        click.echo(f'import diswot.models.student; timm.create_model("local-dir:{written.path}", pretrained=True)')
