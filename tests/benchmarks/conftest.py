"""The scripts of benchmarks/, which is no package."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def script():
    """Import a script by its name. Returns the module."""

    def load(name):
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[2] / "benchmarks" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
