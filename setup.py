"""What pyproject.toml cannot say: the clone's resources travel inside a package that is not editable."""

from pathlib import Path
from shutil import copytree

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithResources(build_py):
    """Builds the package and puts ``resources`` into it, where ``regflow.core.resources`` looks first."""

    def run(self) -> None:
        """Build."""
        super().run()
        if not self.editable_mode:
            copytree("resources", Path(self.build_lib, "regflow", "resources"), dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithResources})
