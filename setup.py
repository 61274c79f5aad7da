"""What pyproject.toml cannot say: the clone's workflow travels inside a package that is not editable."""

from pathlib import Path
from shutil import copytree, ignore_patterns

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("config", "envs", "resources", "workflow")
UNWANTED = ignore_patterns("__pycache__", ".snakemake")


class BuildWithWorkflow(build_py):
    """Builds the package and puts what it ships into it, where ``regflow.core.resources`` looks first."""

    def run(self) -> None:
        """Build."""
        super().run()
        if not self.editable_mode:
            for name in SHIPPED:
                target = Path(self.build_lib, "regflow", "shipped", name)
                copytree(name, target, dirs_exist_ok=True, ignore=UNWANTED)


setup(cmdclass={"build_py": BuildWithWorkflow})
