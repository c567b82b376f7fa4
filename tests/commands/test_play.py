"""`rltrain play` and `rltrain eval video=true` on real runs."""

import json
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from films import read_film
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Discrete
from small_runs import small

from rltrain.algos.registry import load_agent
from rltrain.config import saved as saved_config
from rltrain.envs import registry
from rltrain.envs.gym import make
from rltrain.envs.viewer import Shown
from rltrain.run import checkpoint
from rltrain.run.evaluation import play_episodes
from rltrain.watching import screens
from rltrain.watching.watch import watch


class Kept:
    """A screen that keeps what it is shown."""

    def __init__(self):
        self.pictures, self.closed = [], False

    def show(self, picture):
        self.pictures.append(picture)

    def close(self):
        self.closed = True


def load(folder):
    config = saved_config.load(folder / "config.yaml")
    return config, load_agent(config, checkpoint.find(folder))


def test_play_films_doom_in_colour_beside_what_the_network_sees(made, command):
    folder = made("doom")
    outcome = command("play", folder)
    assert outcome.code == 0, outcome.err
    said, path = outcome.out.splitlines()
    film = Path(path)
    assert film.parent == folder / "videos" and film.suffix == ".mp4"
    steps = int(said.split(" in ")[1].split()[0])
    frames, fps = read_film(film)
    assert fps == 35
    assert frames[0].shape == (510, 640 + 6 + 153 + 1, 3)
    # One picture a tic, ten tics an action, the first picture, and a second of the last one.
    assert 10 * (steps - 1) < len(frames) - 1 - 35 <= 10 * steps
    game, column = frames[20][:480, :640], frames[20][:480, 650:798]
    assert np.abs(game[:, :, 0] - game[:, :, 2]).mean() > 5, "the game is gray"
    assert np.abs(column[:, :, 0] - column[:, :, 2]).mean() < 3, "what the network sees is in colour"
    assert column.std() > 10, "the network sees nothing"


@pytest.mark.parametrize(("name", "episodes"), [("doom", 1), ("cartpole", 2), ("frozen_lake", 3)])
def test_what_is_watched_is_the_first_episode_of_the_evaluation_with_the_same_seed(made, name, episodes):
    config, agent = load(made(name))
    screen = Kept()
    played, is_true = watch(config, agent, episodes, 5, True, lambda fps: screen)
    assert is_true and screen.closed
    assert len(played) == episodes
    scored = play_episodes(config, agent, 1, 5, True)
    assert played[0].reward == scored["returns"][0]
    assert played[0].length_steps == scored["lengths"][0]
    assert len({picture.shape for picture in screen.pictures}) == 1


@pytest.mark.parametrize("by", ["constructor", "global"])
def test_a_constructor_that_draws_numbers_draws_the_same_in_every_copy(command, monkeypatch, request, by):
    """Bugs: `play` plays and shows two other games; a first look at the environment changes what is drawn."""
    monkeypatch.syspath_prepend(request.path.parents[1] / "envs" / "gym")
    env = "env.id=drawn:Drawn-v0"
    trained = command(*small("ppo", "gym"), env, f"env.kwargs.by={by}", "total_steps=64", "eval_every_steps=0")
    assert trained.code == 0, trained.err
    monkeypatch.setattr(make, "_seen", {})  # as in a new process
    scored = json.loads(command("eval", "last", env, "episodes=1", "seed=5").out.splitlines()[-1])["mean_reward"]
    monkeypatch.setattr(make, "_seen", {})
    outcome = command("play", "last", env, "video=true", "seed=5")
    assert "warning" not in outcome.err and f"score {scored:.6g} in 5 steps" in outcome.out, outcome.err
    assert scored == play_episodes(*load(trained.folder), 1, 5, False)["mean_reward"]


def test_a_picture_of_another_game_is_told(made, command, monkeypatch):
    class Other:
        fps = 10.0

        def reset(self, seed):
            return np.zeros((50, 50, 3), np.uint8)

        restart = close = lambda self: np.zeros((50, 50, 3), np.uint8)

        def step(self, action):
            return Shown([], 0.5, False)

        def action_name(self, action):
            return "?"

    monkeypatch.setattr(registry, "make_viewer", lambda config: Other())
    outcome = command("play", made("cartpole"))
    assert outcome.code == 0
    assert "warning: the pictures can differ from the scored game" in outcome.err


@pytest.mark.parametrize("draws", [True, False])
def test_a_picture_of_another_state_is_told_also_with_equal_rewards(draws, made, command, monkeypatch):
    """Bug: `render` took numbers from the game's own generator, so the film showed another drift than the scored."""

    class Drifting(CartPoleEnv):
        def step(self, action):
            self.state = (*np.asarray(self.state)[:3], self.np_random.normal() / 100)
            return super().step(action)

        def render(self):
            if draws:
                self.np_random.random(5)
            return np.zeros((40, 40, 3), np.uint8)

    folder = made("cartpole")
    monkeypatch.setitem(gymnasium.registry, "CartPole-v1", EnvSpec("CartPole-v1", Drifting, max_episode_steps=20))
    outcome = command("play", folder)
    assert outcome.code == 0, outcome.err
    assert ("the pictures can differ from the scored game" in outcome.err) is draws


@pytest.mark.parametrize(("which", "words"), [(2, "but the agent was made for"), ("rgb_array", "when it draws")])
def test_every_copy_of_the_game_that_is_watched_has_the_spaces_of_the_training(
    made, command, monkeypatch, which, words
):
    """Bug: only the first copy was compared, so the agent played another game than that it was trained in."""
    modes = []

    class Wider(CartPoleEnv):
        def __init__(self, render_mode=None):
            super().__init__(render_mode=render_mode)
            modes.append(render_mode)
            if which in (len(modes), render_mode):
                self.action_space = Discrete(3)

    folder = made("cartpole")
    monkeypatch.setitem(gymnasium.registry, "CartPole-v1", EnvSpec("CartPole-v1", Wider, max_episode_steps=20))
    outcome = command("play", folder)
    assert outcome.code == 4 and words in outcome.last_line and "Discrete(3)" in outcome.last_line, outcome.err


def test_a_closed_window_ends_the_play_quietly(made, command, monkeypatch):
    class Impatient(Kept):
        def show(self, picture):
            if len(self.pictures) == 5:
                raise screens.Closed
            super().show(picture)

    shown = []
    monkeypatch.setattr(screens, "has_display", lambda: True)
    monkeypatch.setattr(screens, "Window", lambda title, fps: shown.append((title, fps)) or Impatient())
    outcome = command("play", made("cartpole"), "episodes=3")
    assert (outcome.code, outcome.out) == (0, "")
    assert shown == [("rltrain: ppo plays cartpole", 50)]


def test_eval_films_its_first_episode(made, command):
    outcome = command("eval", made("cartpole"), "episodes=3", "seed=2", "video=true")
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out.splitlines()[-1])
    frames, fps = read_film(result["video"])
    assert fps == 50
    assert len(frames) == 1 + result["lengths"][0] + 50
    assert json.loads(max((made("cartpole") / "eval").iterdir()).read_text()) == result


def test_eval_makes_no_film_unasked(made, command):
    before = list((made("frozen_lake")).glob("videos/*"))
    outcome = command("eval", made("frozen_lake"), "episodes=2")
    assert "video" not in json.loads(outcome.out.splitlines()[-1])
    assert list(made("frozen_lake").glob("videos/*")) == before


def test_without_ffmpeg_the_film_is_a_gif_and_says_how_to_get_mp4(made, command, monkeypatch):
    monkeypatch.setattr(screens, "ffmpeg", lambda: None)
    outcome = command("play", made("frozen_lake"))
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[-1].endswith(".gif")
    assert "pip install 'rltrain[video]'" in outcome.err


def test_without_ffmpeg_a_gif_that_was_not_named_stays(made, command, monkeypatch, tmp_path):
    """Bug: `out=film.mp4` overwrote the user's film.gif."""
    monkeypatch.setattr(screens, "ffmpeg", lambda: None)
    gif = tmp_path / "film.gif"
    gif.write_text("mine")
    outcome = command("play", made("frozen_lake"), f"out={gif.with_suffix('.mp4')}")
    assert outcome.code == 2 and "film.gif, which was not named; out; " in outcome.last_line, outcome.err
    assert gif.read_text() == "mine"
    assert command("play", made("frozen_lake"), f"out={gif}").code == 0, "the control"
    assert gif.read_bytes().startswith(b"GIF")


def test_play_leaves_the_run_as_it_was(made, command):
    folder = made("cartpole")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.parent.name != "videos"}
    assert command("play", folder, "checkpoint=last", "greedy=false", "device=cpu").code == 0
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.parent.name != "videos"}
    assert after == before


def test_the_folder_of_a_film_is_made_as_that_of_a_picture_is(made, command, tmp_path):
    """Bug: "the folder was moved or deleted", for one that never was."""
    film = tmp_path / "films" / "today" / "a.gif"
    outcome = command("play", made("frozen_lake"), f"out={film}")
    assert outcome.code == 0 and film.stat().st_size > 0, outcome.err
    (tmp_path / "file").write_text("")
    refused = command("play", made("frozen_lake"), f"out={tmp_path / 'file' / 'a.gif'}")
    assert refused.code == 7 and "give another out=FILE" in refused.last_line
