"""`rltrain list`: every choice says in one line what it is."""

import pytest

from rltrain.app.hydra_app import CONFIGS
from rltrain.commands.list import GROUPS, description

FILES = [path for group in GROUPS.values() for path in sorted((CONFIGS / group).glob("*.yaml"))]


@pytest.mark.parametrize("path", FILES, ids=[f"{path.parent.name}/{path.stem}" for path in FILES])
def test_every_choice_has_a_description_of_one_line(path):
    text = description(path)
    assert len(text) > 8, f"begin {path.name} with a comment line that tells a person what it is"
    assert path.parent.name == "hparams" or len(text) <= 120, "longer than a line of the terminal"


def test_a_comment_further_down_or_a_package_line_is_no_description(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text("# @package _global_\n# Words.\n# More.\nkey: 1\n")
    assert description(file) == "Words."
    file.write_text("key: 1\n# Not about the file.\n")
    assert description(file) == ""


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("Two parts; the second goes on:", "Two parts; the second goes on"),
        ("Two parts; the second, which is", "Two parts"),
        ("As before, with twice", "As before"),
        ("A sentence. Another, which", "A sentence."),
        ("A name, a name.", "A name, a name."),
        ("No part of it", "No part of it"),
    ],
)
def test_what_goes_on_below_is_shown_up_to_where_it_makes_sense(line, shown, tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text(f"# {line}\n# goes on.\nkey: 1\n")
    assert description(file) == shown


def test_each_line_names_the_group_the_choice_and_what_it_is(command):
    lines = command("list", "envs", "cartpole").out.splitlines()
    assert [line.split(maxsplit=2)[:2] for line in lines] == [["env", "cartpole"]]
    assert "pole" in lines[0].split(maxsplit=2)[2]


def test_a_word_is_looked_for_in_the_descriptions_too(command):
    assert "env      taxi" in command("list", "envs", "passenger").out


def test_a_word_alone_is_looked_for_in_all_lists(command):
    outcome = command("list", "airstriker")
    assert outcome.code == 0
    assert {line.split()[0] for line in outcome.out.splitlines()} == {"env", "hparams"}
    outcome = command("list", "airstrikr")
    assert outcome.code == 2
    assert "no choice contains 'airstrikr'" in outcome.last_line and "did you mean 'airstriker'" in outcome.last_line


def test_without_a_word_all_groups_are_shown(command):
    outcome = command("list")
    assert outcome.code == 0
    assert {line.split()[0] for line in outcome.out.splitlines()} == set(GROUPS.values())
    assert len(outcome.out.splitlines()) == len(FILES)


def test_a_word_that_nothing_has_is_told_with_the_nearest_name(command):
    outcome = command("list", "envs", "cartpol3")
    assert outcome.code == 2
    assert "did you mean 'cartpole'" in outcome.last_line
