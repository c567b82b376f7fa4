"""Paths of the package and its YAML files, in a checkout or an installed wheel."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
"""Folder of the package."""

CONFIGS = PACKAGE / "configs" if (PACKAGE / "configs").is_dir() else PACKAGE.parent / "configs"
"""Folder of the YAML files: inside the package in a wheel, next to it in a checkout."""
