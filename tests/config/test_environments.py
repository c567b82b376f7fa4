"""The settings of environments."""

from types import SimpleNamespace

import pytest

from rltrain.config.environments import AtariConfig, DoomConfig, GymConfig, RetroConfig, folder_name
from rltrain.errors import ConfigError


@pytest.mark.parametrize(
    ("env", "name"),
    [
        (GymConfig(name="gym", id="CartPole-v1"), "CartPole-v1"),
        (GymConfig(name="gym", id="package.module:ns/Name-v0"), "package.module-ns-Name-v0"),
        (GymConfig(name="cartpole", id="CartPole-v1"), "cartpole"),
        (AtariConfig(name="atari", game="asterix"), "asterix"),
        (RetroConfig(name="retro", game="Airstriker-Genesis-v0"), "Airstriker-Genesis-v0"),
        (DoomConfig(name="doom", scenario="basic"), "doom"),
        (DoomConfig(name="doom", scenario="cig"), "doom_cig"),
        (SimpleNamespace(name="doom", family="doom", cfg="/some/my map.cfg"), "doom_my-map"),
        (DoomConfig(name="doom_basic", scenario="basic"), "doom_basic"),
    ],
)
def test_the_folders_of_two_environments_of_a_family_are_apart(env, name):
    assert folder_name(env) == name


@pytest.mark.parametrize("key", ["game", "scenario"])
@pytest.mark.parametrize("name", ["/proc/self/cwd/evil", "../evil", "..", ""])
def test_a_console_game_is_a_name_and_no_path(key, name):
    """Bug: the scenario of a run folder led to a script, which the emulator ran."""
    with pytest.raises(ConfigError, match=f"env.{key}"):
        RetroConfig("x", **{key: name})
