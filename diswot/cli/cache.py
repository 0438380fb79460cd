"""The verb `cache`."""

from __future__ import annotations

import dataclasses
import json

import rich_click as click

from diswot.cli.flags import running


@click.command()
@click.option("--clear", is_flag=True, help="remove it")
@running("json")
def cache(clear: bool, as_json: bool) -> None:
    """Show, or remove, the store of scores: what searches, studies and `score` have computed, so that none of them computes it again.

    It lies in ~/.cache/diswot ($DISWOT_HOME), grows to 500 MB and then drops what was used longest ago. --no-cache, or DISWOT_CACHE=off in
    the environment, does without.
    """
    from diswot.scoring.store import clear_store, store_usage

    usage = clear_store() if clear else store_usage()
    if as_json:
        click.echo(json.dumps({**dataclasses.asdict(usage), "path": str(usage.path), "cleared": clear}))
        return
    what = f"{usage.scores:,} scores in {usage.settings:,} settings, {usage.bytes / 1e6:.1f} MB"
    click.echo(f"{usage.path}: {what}{'; removed' if clear else ''}" if usage.bytes else f"{usage.path}: nothing is there")
