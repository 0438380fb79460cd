"""The verb `list`: what can be named."""

from __future__ import annotations

import json

import rich_click as click

from diswot.cli.flags import running

Entries = list[tuple[str, str]]


def _spaces() -> Entries:
    from diswot.space import ALIASES, BUILT_IN, load_space

    aliases = {name: alias for alias, name in ALIASES.items()}
    rows = []
    for name in BUILT_IN:
        space = load_space(name)
        also = f" (also {aliases[name]})" if name in aliases else ""
        rows.append((name, f"{space.size_text()} networks for {space.input_size}-pixel images{also}"))
    return [*rows, ("module:name", "your own: a subclass of diswot.SearchSpace")]


def _proxies() -> Entries:
    from diswot.proxies import PROXIES, RANKINGS

    rankings = [(name, ranking.describe()) for name, ranking in RANKINGS.items()]
    proxies = [(name, PROXIES[name].describe()) for name in PROXIES]
    return [
        *rankings,
        *proxies,
        ("loss:NAME", "a distillation loss, its sign turned"),
        ("module:name", "your own: a subclass of diswot.proxies.Proxy"),
    ]


def _teachers() -> Entries:
    import timm

    from diswot.models.zoo import ZOO

    zoo = [(name, f"CIFAR, {sum(p.numel() for p in build().parameters()) / 1e6:.2f}M parameters") for name, build in ZOO.items()]
    count = len([name for name in timm.list_models() if not name.startswith("cifar_")])
    any_of_timm = f"{count} networks: resnet34, convnext_tiny, ...; timm/vgg13 where the names are the same"
    return [*zoo, ("any of timm", any_of_timm), ("module:name", "your own: called with num_classes and in_chans, gives a torch module")]


def _losses() -> Entries:
    from diswot.losses import LOSSES, signature

    rows = [(name, f"{LOSSES[name].summary} {signature(name).removeprefix(name)}") for name in LOSSES]
    return [*rows, ("module:name", "your own: a subclass of diswot.losses.Loss")]


def _data() -> Entries:
    from diswot.data import SOURCES

    return [*SOURCES.items(), ("module:name", "your own: a subclass of diswot.data.DataSource")]


def _strategies() -> Entries:
    from diswot.searching.strategies import STRATEGIES

    rows = [(name, strategy.summary) for name, strategy in STRATEGIES.items()]
    return [*rows, ("module:name", "your own: a subclass of diswot.searching.strategies.Strategy")]


_LISTS = {"spaces": _spaces, "proxies": _proxies, "teachers": _teachers, "losses": _losses, "data": _data, "strategies": _strategies}


@click.command(name="list")
@click.argument("what", type=click.Choice(list(_LISTS)))
@running("json")
def list_(what: str, as_json: bool) -> None:
    """List what can be named: spaces, proxies, teachers, losses, data, strategies."""
    entries = _LISTS[what]()
    if as_json:
        click.echo(json.dumps([{"name": name, "summary": summary} for name, summary in entries]))
        return
    width = max(len(name) for name, _ in entries)
    for name, summary in entries:
        click.echo(f"{name:{width}}  {summary}".rstrip())
