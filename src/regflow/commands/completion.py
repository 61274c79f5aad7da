"""``regflow completion``: teach the shell to complete regflow's commands and options."""

import click


@click.command(short_help="Teach the shell to complete.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    r"""Print the lines that make SHELL complete regflow's commands and options.

    \b
    bash:  regflow completion bash >> ~/.bashrc
    zsh:   regflow completion zsh >> ~/.zshrc
    fish:  regflow completion fish > ~/.config/fish/completions/regflow.fish
    """
    from click.shell_completion import get_completion_class

    from regflow.commands.cli import main

    found = get_completion_class(shell)
    assert found is not None  # click ships all three
    click.echo(found(main, {}, "regflow", "_REGFLOW_COMPLETE").source())
