"""Words that parse almost: an empty one, a number beyond floats, a step with two underscores are told, not a crash."""

from pathlib import Path
from typing import Any

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


@pytest.mark.parametrize("words", [["eval", "seed"], ["play", "seed"], ["resume", "micro_batch_size"]])
def test_a_number_of_more_than_64_bits_is_out_of_range(words: list[str], made: Any, command: Any) -> None:
    """Bugs: "a bug in rltrain" for a seed; after `resume` with such a number no command could read the run."""
    folder = made("frozen_lake")
    before = sorted(path.name for path in folder.iterdir())
    outcome = command(words[0], folder, f"{words[1]}={2**64}")
    assert outcome.code == 2 and outcome.last_line.endswith(
        f"{2**64} is out of range; {words[1]}; give an integer of at most {2**63 - 1}"
    )
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize("step", ["1__0", "²", "_1", "1_"])
def test_what_is_no_step_is_no_checkpoint(tmp_path: Path, step: str) -> None:
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        checkpoint.find(tmp_path, step)
