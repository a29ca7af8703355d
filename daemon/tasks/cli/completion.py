"""`tasksd completion`: the script that makes a shell complete our commands."""

import click
from click.shell_completion import get_completion_class

from tasks.cli.app import tasksd


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a SHELL.

    \b
    bash:  eval "$(tasksd completion bash)"      in ~/.bashrc
    zsh:   eval "$(tasksd completion zsh)"       in ~/.zshrc
    fish:  tasksd completion fish | source       in ~/.config/fish/config.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion is known for {shell}")
    click.echo(kind(tasksd, {}, "tasksd", "_TASKSD_COMPLETE").source())
