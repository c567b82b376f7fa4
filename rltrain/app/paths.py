"""Where the files beside the code are, in a checkout and in an installed wheel."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
"""The folder of the package."""

CONFIGS = PACKAGE / "configs" if (PACKAGE / "configs").is_dir() else PACKAGE.parent / "configs"
"""The YAML files: inside the package in a wheel, beside it in a checkout."""
