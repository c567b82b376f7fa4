"""Words that parse almost: an empty one, a number beyond floats, a step with two underscores are told, not a crash."""

from pathlib import Path

import pytest

from rltrain import cli
from rltrain.commands.arguments import whole_number
from rltrain.errors import CheckpointError, ConfigError
from rltrain.run import checkpoint


def test_an_empty_first_word_is_a_wrong_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([""]) == 2  # `rltrain "$UNSET"`
    assert "unknown command ''" in capsys.readouterr().err


def test_a_number_beyond_floats_is_not_allowed() -> None:
    assert whole_number("total_steps", "1e6") == 1_000_000
    with pytest.raises(ConfigError, match="1e400 is not allowed"):
        whole_number("total_steps", "1e400")


@pytest.mark.parametrize("step", ["1__0", "²", "_1", "1_"])
def test_what_is_no_step_is_no_checkpoint(tmp_path: Path, step: str) -> None:
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        checkpoint.find(tmp_path, step)
