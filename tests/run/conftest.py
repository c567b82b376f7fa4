"""What tests of run folders share: a finished run to copy."""

import pytest
from small_runs import TABLE

from rltrain import cli


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run with several checkpoints. Copy it before you change it."""
    place = tmp_path_factory.mktemp("made")
    assert cli.run([*TABLE, f"run_dir={place}"]) == 0
    return (place / "latest").resolve()
