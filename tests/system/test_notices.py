"""Lines on stderr for what somebody may not expect."""

import ast
from pathlib import Path

import rltrain
from rltrain.system import notices


def test_a_warning_is_one_line_and_shows_control_characters(capfd):
    notices.warn("a name with \033[2J\nand a second line")
    assert capfd.readouterr().err == "rltrain: warning: a name with \\x1b[2J\\nand a second line\n"


def test_a_thing_is_told_once_even_if_its_numbers_differ(capfd):
    for steps in (5, 6):
        notices.warn_once(f"an episode of test_notices took {steps} steps", about="test_notices length")
    notices.warn_once("an episode of test_notices took 7 steps")
    told = capfd.readouterr().err.splitlines()
    assert [line.split()[-2] for line in told] == ["5", "7"]
    assert notices.has_told("test_notices len") and not notices.has_told("length")


def test_no_other_place_prints_a_warning_by_itself():
    """It would forget control characters, as eleven places did."""
    for path in Path(rltrain.__file__).parent.rglob("*.py"):
        texts = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
        if path.name != "notices.py":
            assert not [text for text in texts if isinstance(text, str) and "rltrain: warning" in text], path
