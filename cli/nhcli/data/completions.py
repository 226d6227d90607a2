"""``nhdata completions``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from nhcli.base import Command


@click.command("completions", cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print what makes a shell complete nhdata and nhmodel.

    \b
    bash  echo 'eval "$(nhdata completions bash)"' >> ~/.bashrc
    zsh   echo 'eval "$(nhdata completions zsh)"' >> ~/.zshrc
    fish  nhdata completions fish > ~/.config/fish/completions/nhdata.fish
    """
    from nhcli.data import cli as nhdata
    from nhcli.model import cli as nhmodel

    kind = get_completion_class(shell)
    assert kind is not None
    for name, cli in (("nhdata", nhdata), ("nhmodel", nhmodel)):
        made = kind(cli, {}, name, f"_{name.upper()}_COMPLETE")
        click.echo(made.source_template % made.source_vars())
