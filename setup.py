"""All metadata is in pyproject.toml; here is what it cannot say: configs/ goes into the package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithConfigs(build_py):
    """Copies configs/ to detector/configs of what is built; a checkout reads its own folder.

    As a package-dir entry it would need a list of all packages by hand, which packages.find makes.
    """

    def run(self) -> None:
        """Build, then copy."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "detector", "configs")
            shutil.copytree("configs", target, dirs_exist_ok=True)


setup(cmdclass={"build_py": WithConfigs})
