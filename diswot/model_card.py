"""The model card of a student, README.md on the Hugging Face hub: what it is, how it was trained, how good it is, how to load it."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from diswot import runs
from diswot.architecture import Architecture, read_arch_json
from diswot.budget import cost_of
from diswot.data import REMOTE
from diswot.distillation.students import WEIGHTS, display_name
from diswot.errors import RunError
from diswot.runs import RunDir
from diswot.space import ImageSpec, load_space
from diswot.training.checkpoint import load_tensors
from diswot.training.loop import METRICS


@dataclass(frozen=True)
class _Training:
    """What the folder of a run says of a student's training.

    Attributes:
        config: the options.
        measured_on: `test` or `validation`; "" where nothing was measured.
        top1: accuracy in percent after the last epoch.
        epochs: how many were run.
        loss: the loss; "" where the run had several, of which each trained a student.
    """

    config: Mapping[str, Any]
    measured_on: str
    top1: float
    epochs: int
    loss: str


def model_card(folder: Path, trusted: bool = False) -> str:
    """Return the model card of the student in a folder: YAML for the hub, then text.

    What a run's folder says of the training and the accuracy is in it where the student still lies in one (`runs/NAME/student`).

    Args:
        folder: holds arch.json and model.safetensors.
        trusted: whether the architecture's space may be a module of the user's own.

    Raises:
        DiswotError: a file is missing or damaged.
    """
    arch, _ = read_arch_json(folder / "arch.json")
    _, facts = load_tensors(folder / WEIGHTS)
    training = _training_of(folder)
    name = f"diswot {display_name(arch)}"
    front = _front_matter(name, training).to_yaml()
    sections = [f"# {name}", _network(arch, facts, trusted), _how_trained(training), _LOADING]
    return f"---\n{front}\n---\n\n" + "\n\n".join(section for section in sections if section) + "\n"


_LOADING = """## Use

The images are normalised by the mean and deviation that `config.json` holds.

```python
import diswot

model = diswot.load_student("FOLDER")  # or, by timm:

import timm
import diswot.models.student

model = timm.create_model("local-dir:FOLDER", pretrained=True)
```"""


def _training_of(folder: Path) -> _Training | None:
    """What the run that a student lies in says; None where it lies in none."""
    run = folder.parent if folder.name == "student" else folder.parent.parent
    try:
        opened, config = RunDir.open(run, runs.kind_of(run), lock=False)
        history = opened.read(METRICS)
    except RunError:
        return None
    last: Mapping[str, Any] = history[-1] if history else {}
    alone = folder.name == "student"
    loss = str(config.get("loss") or "")
    loss = "" if ";" in loss or config.get("sweep") else loss
    for split in ("test", "validation"):
        top1 = last.get(f"{split}_top1" if alone else f"{folder.name}/{split}_top1")
        if isinstance(top1, int | float):
            return _Training(config, split, float(top1), len(history), loss)
    return _Training(config, "", 0.0, len(history), loss)


def _front_matter(name: str, training: _Training | None) -> ModelCardData:
    results: list[EvalResult] = []
    if training is not None and training.measured_on:
        data = _data_name(training)
        results = [
            EvalResult(
                task_type="image-classification",
                dataset_type=data,
                dataset_name=data,
                dataset_split=training.measured_on,
                metric_type="accuracy",
                metric_name="top-1",
                metric_value=round(training.top1, 2),
            )
        ]
    tags = ["image-classification", "diswot", "knowledge-distillation", "neural-architecture-search"]
    return ModelCardData(library_name="timm", pipeline_tag="image-classification", tags=tags, model_name=name, eval_results=results)


def _data_name(training: _Training) -> str:
    """The name of the data, without the folders that it lay in here."""
    data = str(training.config.get("data"))
    return data if data.startswith(REMOTE) else Path(data).name


def _network(arch: Architecture, facts: Mapping[str, Any], trusted: bool) -> str:
    spec = ImageSpec(facts["num_classes"], facts["in_chans"], facts["input_size"])
    cost = cost_of(load_space(arch.space, trusted=trusted), arch, spec)
    size = " x ".join(map(str, spec.shape))
    numbers = f"{cost.params:,} parameters, {cost.flops / 1e6:,.1f}M FLOPs (multiply-adds) an image, depth {cost.depth}"
    choices = textwrap.shorten(json.dumps(arch.choices), 400, placeholder=" ...")
    return f"A network of the search space `{arch.space}`: {numbers}. Images: {size}; {spec.num_classes} classes.\n\n```\n{choices}\n```"


def _how_trained(training: _Training | None) -> str:
    if training is None:
        return ""
    config = training.config
    teacher = f", under the teacher `{config['teacher']}`" if config.get("teacher") else ""
    by = f" by the loss `{training.loss}`" if training.loss else ""
    lines = [f"Trained{by}{teacher}, for {training.epochs} epochs on `{_data_name(training)}`, random seed {config.get('seed')}."]
    if training.measured_on:
        held_out = "" if training.measured_on == "test" else " (held-out training images)"
        chosen = ", by which strengths of the loss were compared" if config.get("sweep") else ", with nothing chosen by it"
        lines.append(f"Top-1 accuracy on {training.measured_on}{held_out}, after the last epoch{chosen}: {training.top1:.2f} %.")
    return "## Training\n\n" + "\n".join(lines)
