"""`rltrain list`: every choice says in one line what it is."""

import pytest

from rltrain.app.hydra_app import CONFIGS
from rltrain.commands.list import GROUPS, description

FILES = [path for group in GROUPS.values() for path in sorted((CONFIGS / group).rglob("*.yaml"))]


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
    assert {line.split()[0] for line in filter(None, outcome.out.splitlines())} == {"#", "env", "hparams"}
    outcome = command("list", "airstrikr")
    assert outcome.code == 2
    assert "no choice contains 'airstrikr'" in outcome.last_line and "did you mean 'airstriker'" in outcome.last_line


def sections(out):
    """The names below each heading."""
    found = {}
    for line in filter(None, out.splitlines()):
        if line.startswith("# "):
            names = found[line.removeprefix("# ")] = []
        else:
            names.append(line.split()[1])
    return found


def test_without_a_word_all_groups_are_shown(command):
    outcome = command("list")
    assert outcome.code == 0
    lines = [line for line in outcome.out.splitlines() if line and not line.startswith("#")]
    assert {line.split()[0] for line in lines} == set(GROUPS.values())
    assert len(lines) == len(FILES)


def test_choices_stand_in_groups_with_headings(command):
    """Bug: sixty names in the order of the alphabet, and nobody can tell a table from a network."""
    found = sections(command("list").out)
    assert found["algo: tables (for a small number of states)"] == ["monte_carlo", "q_learning", "sarsa"]
    assert "d3qn_per" in found["algo: values (a network estimates the return of each action)"]
    assert found["algo: policies (a network chooses the actions)"] == ["a2c", "a3c", "impala", "ppo", "reinforce"]
    assert {"doom", "doom_basic"} <= set(found["env: Doom"]) and "sonic_levels" in found["env: console games"]
    assert {"atari", "pong"} <= set(found["env: Atari games"]) and "maze" in found["env: Gymnasium"]
    assert found["hparams: a3c"] == ["a3c_cartpole"]
    assert "#" not in command("list", "networks").out, "a single group needs no heading"


def test_choices_of_a_folder_of_ones_own_are_shown_in_their_groups(command, tmp_path, monkeypatch):
    """Bugs: `list` takes --config-dir for a word; `~` is a folder of this name."""
    for name, text in {
        "algo/mine.yaml": "# My own DQN.\ndefaults: [dqn, _self_]\nlike: dqn\n",
        "env/room.yaml": "# My room.\ndefaults: [doom_basic, _self_]\n",
        "hparams/mine_room.yaml": "# @package _global_\n# Tuned at home.\nseed: 1\n",
    }.items():
        (tmp_path / "conf" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "conf" / name).write_text(text)
    monkeypatch.setenv("HOME", str(tmp_path))
    for words in (["--config-dir", "conf"], ["--config-dir=~/conf"], ["-cd", "~/conf"], ["hydra.searchpath=[~/conf]"]):
        outcome = command("list", *words)
        assert outcome.code == 0, outcome.err
        found = sections(outcome.out)
        assert "mine" in found["algo: values (a network estimates the return of each action)"]
        assert "room" in found["env: Doom"]
        assert found["hparams: mine"] == ["mine_room"]
    assert f"env      room  My room. ({tmp_path}/conf/env/room.yaml)" in command("list", "envs", "room", *words).out
    outcome = command("list", "--config-dir=none")
    assert outcome.code == 2 and "there is no folder 'none'; --config-dir; " in outcome.last_line


def test_a_word_that_nothing_has_is_told_with_the_nearest_name(command):
    outcome = command("list", "envs", "cartpol3")
    assert outcome.code == 2
    assert "did you mean 'cartpole'" in outcome.last_line
