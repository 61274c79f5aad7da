"""``python -m regflow`` is the ``regflow`` command."""

from regflow.commands.cli import main

main(prog_name="regflow")
