"""Texts of others are shown, not obeyed."""

import pytest

from rltrain.errors import CheckpointError, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Größe naïve 漢字", "Größe naïve 漢字"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("a\rb\x07\x9b", "a\\rb\\x07\\x9b"),
        ("gpj.‮exe", "gpj.\\u202eexe"),
        ("bytes \udcff", "bytes \\udcff"),
    ],
)
def test_control_characters_are_escaped_and_letters_are_not(text, shown):
    """Bugs: a run's name clears the screen or sets the window's title; accents are escaped; a bad byte ends print()."""
    assert printable(text) == shown


def test_errors_escape_what_they_quote():
    """Bug: the reason of a failure, read from status.json, reaches the terminal raw."""
    assert str(CheckpointError("a\x1b[2Jb", "c\nd", "e")) == "a\\x1b[2Jb; c d; e"
