"""Snakemake behind a progress bar: ``python -m regflow.commands.snakemake_bar``, with Snakemake's arguments.

Snakemake tells what happens as events, to plugins that ``--logger`` names. It looks for them among the
packages that are installed; this one registers itself, in the process that it starts Snakemake in. Jobs
are processes of their own, with Snakemake's plain logging.
"""

import logging
import sys
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent, logger_plugin_module_prefix
from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry
from tqdm import tqdm

NAME = "regflow"
"""Of the plugin, for ``--logger``."""


class LogHandler(LogHandlerBase):
    """Moves a bar by the jobs that are done, and lets warnings and errors stand above it."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = True  # Snakemake's would keep events from the bar that --quiet keeps from the screen.
    has_formatter = False
    needs_rulegraph = False

    def __post_init__(self) -> None:
        """Show the bar, which counts nothing yet."""
        self.bar: tqdm[Any] = tqdm(unit="job", desc="regflow", dynamic_ncols=True)

    def emit(self, record: logging.LogRecord) -> None:
        """Show one event."""
        event = getattr(record, "event", None)
        if event == LogEvent.RUN_INFO:
            self._show(0, record.__dict__["stats"]["total"])
        elif event == LogEvent.PROGRESS:
            self._show(record.__dict__["done"], record.__dict__["total"])
        elif record.levelno >= logging.WARNING:
            self.bar.write(self.format(record), file=sys.stderr)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self.bar.close()
        super().close()

    def _show(self, done: int, total: int) -> None:
        self.bar.total = total
        self.bar.update(done - self.bar.n)
        self.bar.refresh()


def main() -> None:
    """Run Snakemake with the command line's arguments; it ends the process."""
    LoggerPluginRegistry().register_plugin(f"{logger_plugin_module_prefix}{NAME}", sys.modules[__name__])
    from snakemake.cli import main as run_snakemake

    run_snakemake(["--logger", NAME, *sys.argv[1:]])


if __name__ == "__main__":
    main()
