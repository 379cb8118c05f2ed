"""All metadata is in pyproject.toml; here is what it cannot say: configs/ goes into the package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithConfigs(build_py):
    """Copies configs/ to detector/configs of what is built; a checkout reads its own folder.

    A package-dir entry for a folder outside the package would give up the plain path file of
    editable installs.
    """

    def run(self) -> None:
        """Build, then copy."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "detector", "configs")
            shutil.copytree("configs", target, dirs_exist_ok=True)


setup(cmdclass={"build_py": WithConfigs})
