"""Flags made from the fields of configurations, and those that say how a command runs."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import rich_click as click

from diswot.config import CompareConfig, DistillConfig, ScoreConfig, SearchConfig, StudyConfig, TabulateConfig, TrainConfig
from diswot.config.fields import flag_of

F = TypeVar("F", bound=Callable[..., Any])
_VERBS = {
    "search": SearchConfig,
    "score": ScoreConfig,
    "study": StudyConfig,
    "tabulate": TabulateConfig,
    "train": TrainConfig,
    "distill": DistillConfig,
    "compare": CompareConfig,
}
_PANELS = (
    *("What to find", "What to train", "What to study", "What to tabulate", "Images", "Scoring"),
    *("Search", "Recipe", "Augmentation", "Speed", "Figures"),
)
_RUNNING = {
    "device": click.option("--device", default="auto", help="auto, cpu, cuda or mps; cuda:0,cuda:1 for several \\[auto]"),
    "workers": click.option(
        "--workers",
        type=int,
        default=0,
        help="processes or jobs side by side \\[one for each core, one for each GPU, or what the executor has]; the outcome is the same",
    ),
    "executor": click.option(
        "--executor",
        default="local",
        help="who does the work: local (processes), dask:local, dask:tcp://HOST:8786, slurm:partition=gpu,..., or module:name \\[local]",
    ),
    "patience": click.option(
        "--patience", type=float, help="seconds that one candidate may take before its worker is taken for hung, and ended \\[1800]"
    ),
    "cache": click.option(
        "--cache/--no-cache",
        default=True,
        help="take scores of earlier runs from the store that `diswot cache` shows, and keep new ones there \\[cache]",
    ),
    "quiet": click.option("--quiet", is_flag=True, help="show no progress"),
    "json": click.option("--json", "as_json", is_flag=True, help="print the result as JSON, and nothing else, on stdout"),
    "config": click.option("--config", "config_file", help="a YAML file of these options; later key=value words and flags win"),
    "name": click.option("--name", help="name of the run's folder \\[made from the options and the time]"),
    "runs": click.option("--runs", "runs_folder", default="runs", help="folder of all runs \\[runs]"),
    "resume": click.option("--resume", help="go on with the run in this folder"),
    "allow": click.option(
        "--allow", multiple=True, help="with --resume of a run that was begun elsewhere: import this module:name; several times for several"
    ),
    "scores-of": click.option("--scores-of", help="take over the scores of this study's folder, where it has them"),
    "from": click.option(
        "--from", "searches", multiple=True, help="take networks from the search in this folder; several times for several"
    ),
    "tensorboard": click.option("--tensorboard", is_flag=True, help="write TensorBoard's files into the run's folder too"),
    "report": click.option(
        "--report/--no-report", default=None, help="write the run's page, report.html, into its folder at the end \\[report]"
    ),
    "out": click.option(
        "--out",
        default="arch.json",
        help="the winner; an earlier one is kept beside it, and --resume needs it again \\[arch.json]",
    ),
}

OF_A_RUN = ("quiet", "json", "config", "name", "runs", "resume", "allow", "report")  # flags of every verb that leaves a run

click.rich_click.STYLE_HELPTEXT_FIRST_LINE = "bold"
click.rich_click.STYLE_HELPTEXT = ""
click.rich_click.MAX_WIDTH = 120
click.rich_click.TEXT_MARKUP = "rich"


def _panels(config: type) -> Any:
    """The panels of a verb's help, in the order of the fields, a configuration's own before those that it shares with others."""
    inherited = {field.name for base in config.__mro__[1:] if dataclasses.is_dataclass(base) for field in dataclasses.fields(base)}
    panels: dict[str, list[str]] = {}
    for field in sorted(dataclasses.fields(config), key=lambda field: field.name in inherited):
        panels.setdefault(field.metadata["group"], []).append(flag_of(field.name))
    named: list[dict[str, Any]] = [{"name": name, "options": panels[name]} for name in _PANELS if name in panels]
    return [*named, {"name": "Running", "options": [f"--{name}" for name in _RUNNING]}]


click.rich_click.OPTION_GROUPS = {f"diswot {verb}": _panels(config) for verb, config in _VERBS.items()}


def flags_of(config: type) -> Callable[[F], F]:
    """Give a command a flag for each field of a configuration, with the field's help; a flag that is not given stays None."""
    hints = typing.get_type_hints(config)

    def decorate(function: F) -> F:
        for field in reversed(dataclasses.fields(config)):
            flag, kind = flag_of(field.name), _click_type(hints[field.name])
            default = "" if field.default in (None, False, "") else f" \\[{'yes' if field.default is True else field.default}]"
            text = field.metadata["help"].replace("[", "\\[") + default
            if kind is bool:
                flag += f"/--no-{flag[2:]}"
                function = click.option(flag, field.name, default=None, help=text)(function)
            else:
                function = click.option(flag, field.name, type=kind, default=None, help=text)(function)
        return function

    return decorate


def _click_type(hint: Any) -> Any:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    return click.Choice(typing.get_args(hint)) if typing.get_origin(hint) is Literal else hint


def running(*names: str) -> Callable[[F], F]:
    """Give a command the flags that say how it runs, which its outcome does not depend on."""

    def decorate(function: F) -> F:
        for name in reversed(names):
            function = _RUNNING[name](function)
        return function

    return decorate


def words(metavar: str) -> Callable[[F], F]:
    """Give a command its arguments: what it is about, and `key=value` words."""
    return click.argument("words", nargs=-1, metavar=metavar)


own_space = click.option("--space", help="the space of choices that are typed; allows one of your own, module:name")
