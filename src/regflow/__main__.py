"""``python -m regflow`` is the ``regflow`` command."""

from regflow.cli import main

main(prog_name="regflow")
