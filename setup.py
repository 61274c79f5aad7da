"""What pyproject.toml cannot say: the clone's workflow travels inside a package that is not editable."""

from pathlib import Path
from shutil import copyfile, copytree, ignore_patterns

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("config", "envs", "resources", "workflow")
LOCK = "requirements.lock"
UNWANTED = ignore_patterns("__pycache__", ".snakemake")


class BuildWithWorkflow(build_py):
    """Builds the package and puts what it ships into it, where ``regflow.core.resources`` looks first."""

    def run(self) -> None:
        """Build."""
        super().run()
        if not self.editable_mode:
            shipped = Path(self.build_lib, "regflow", "shipped")
            for name in SHIPPED:
                copytree(name, shipped / name, dirs_exist_ok=True, ignore=UNWANTED)
            copyfile(LOCK, shipped / LOCK)


setup(cmdclass={"build_py": BuildWithWorkflow})
