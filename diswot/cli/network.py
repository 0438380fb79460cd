"""The verbs on one network: `show`, `evaluate`, `predict` and `export`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import rich_click as click

from diswot.cli.flags import own_space, running
from diswot.cli.images import image_spec, is_named, sizes
from diswot.errors import ConfigError, brief_repr, first_line
from diswot.progress.terminal import progress_shown
from diswot.report.terminal import show_table


@click.command()
@click.argument("architecture", metavar="ARCHITECTURE")
@sizes
@own_space
@running("device", "json")
def show(architecture: str, num_classes: int | None, input_size: int | None, space: str | None, device: str, as_json: bool) -> None:
    """Show a network: a drawing of it, its parts, parameters, FLOPs, memory and latency.

    ARCHITECTURE is an arch.json, the name of a network, a NAS-Bench-201 string or, with --space, the choices themselves.

    [bold]diswot show arch.json[/]

    [bold]diswot show '{"depths": [3, 5, 7]}' --space s0[/]
    """
    with progress_shown(quiet=False) as reporter:
        reporter.within("loading torch")
        from diswot.cli import output
        from diswot.cli.drawing import draw_network, encodable
        from diswot.describe import describe
        from diswot.devices import choose_device
        from diswot.latency.runtimes import Setup
        from diswot.models.named import read_architecture
        from diswot.space import load_space

        arch, provenance = read_architecture(architecture, space)
        found_space = load_space(arch.space, trusted=is_named(space, arch.space))
        spec = image_spec(found_space, provenance, num_classes, input_size)
        reporter.within("building it, measuring its latency")
        found = describe(found_space, arch, spec, choose_device(device))
    if as_json:
        click.echo(json.dumps(output.show_json(found)))
        return
    for line in encodable(draw_network(found.parts, spec.shape, spec.num_classes, found_space.sketch(arch))):
        click.echo(line)
    click.echo()
    show_table(output.show_architecture(found))
    if found.measured is not None and (warning := found.measured.warning(Setup(found.device))):
        click.echo(f"warning: {warning}", err=True)


@click.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@sizes
@own_space
@running("json")
def diff(first: str, second: str, num_classes: int | None, input_size: int | None, space: str | None, as_json: bool) -> None:
    """Compare two networks: the choices that differ, and their costs side by side.

    A and B are named as for `show`. Both are built for the images that A was searched for.

    [bold]diswot diff runs/NAME/finalists/winner.json runs/NAME/finalists/alternative.json[/]

    [bold]diswot diff arch.json resnet20[/]
    """
    with progress_shown(quiet=False) as reporter:
        reporter.within("loading torch")
        from diswot.difference import compare_networks
        from diswot.models.named import read_architecture
        from diswot.space import load_space

        (arch, provenance), (other, _) = read_architecture(first, space), read_architecture(second, space)
        spaces = [load_space(one.space, trusted=is_named(space, one.space)) for one in (arch, other)]
        spec = image_spec(spaces[0], provenance, num_classes, input_size)
        found = compare_networks(spaces, (arch, other), spec)
    from diswot.cli import difference

    if as_json:
        click.echo(json.dumps(difference.as_json(found)))
        return
    for table in difference.tables(found, first, second):
        show_table(table)
    for line in difference.remarks(found):
        click.echo(line)


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
            raise ConfigError(f"{brief_repr(target)}: {error.strerror or first_line(error)}") from None
    if reduced is not None:
        from diswot.cli import output

        show_table(output.reduced_table(reduced))
    what = "float32's" if precision != "fp32" else "torch's"
    click.echo(f"{written.path}: {written.kind}, its outputs differ from {what} by {written.difference:.1g} of the largest")
    if written.kind == "timm":
        click.echo(f'import diswot.models.student; timm.create_model("local-dir:{written.path}", pretrained=True)')
