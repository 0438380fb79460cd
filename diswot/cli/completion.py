"""The verb `completion`: what makes a shell complete the words of a command."""

from __future__ import annotations

import rich_click as click
from click.shell_completion import get_completion_class

VARIABLE = "_DISWOT_COMPLETE"  # by which the shell asks for words


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the lines that make a shell complete verbs, flags and their values.

    [bold]diswot completion bash >> ~/.bashrc[/]

    [bold]diswot completion zsh >> ~/.zshrc[/]

    [bold]diswot completion fish > ~/.config/fish/completions/diswot.fish[/]
    """
    kind = get_completion_class(shell)
    assert kind is not None
    made = kind(context.find_root().command, {}, "diswot", VARIABLE)
    click.echo(made.source_template % made.source_vars())
