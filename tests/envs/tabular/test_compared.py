"""A table is trusted only if the environment that was asked for behaves as it says."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from rltrain.config.environments import GymConfig
from rltrain.envs.tabular import table
from rltrain.envs.tabular.table import _chi_square, _is_unlikely, check_table, transition_table
from rltrain.errors import ConfigError, EnvironmentFailure


class Corridor(gymnasium.Env):
    """Five cells; 0 goes left, 1 goes right with probability 0.8. The fifth cell pays 1 and ends the episode."""

    observation_space, action_space = spaces.Discrete(5), spaces.Discrete(2)

    def __init__(self, how: str = "", chance: float = 0.8) -> None:
        self.how, self.gain = how, 1.0
        self.initial_state_distrib = np.eye(5)[0]
        self.P = {s: {0: [(1.0, *self._outcome(s, -1))], 1: self._right(s, chance)} for s in range(5)}
        if how == "outside":
            self.P[0][0] = [(1.0, 7, 0.0, False)]
        if how == "without its end":
            del self.P[4]
        if how == "sum":
            self.P[0][0] = [(0.5, 0, 0.0, False)]
        if how == "negative":
            self.P[0][0] = [(1.5, 0, 0.0, False), (-0.5, 1, 0.0, False)]
        if how == "start":
            self.initial_state_distrib = np.eye(5)[1]
        if how == "starts":
            self.initial_state_distrib = np.array([0.8, 0.2, 0, 0, 0])
        if how in ("paid", "minor"):
            rare = [(0.1, 3, 0.0, False), (0.1, 2, 0.0, False)] if how == "minor" else [(0.2, 2, 0.5, False)]
            self.P[2][0] = [(0.8, 1, 0.0, False), *rare]

    def _right(self, s, chance):
        return [(chance, *self._outcome(s, 1)), (1 - chance, *self._outcome(s, 0))]

    @staticmethod
    def _outcome(s, move):
        to = min(4, max(0, s + move))
        return to, float(to == 4), to == 4

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.s, self.t = 0, 0
        if self.how == "redrawn" and seed:
            self.gain = 2.0
        if self.how == "hidden" and seed:  # a state that the comparison may never reach
            self.P[3][0] = [(1.0, 0, 0.0, False)]
        return 0, {}

    def step(self, action):
        chance = {"chance": 0.5}.get(self.how, 0.8)
        moved = action == 0 or self.np_random.random() < chance
        before = self.s
        self.s, reward, terminated = self._outcome(self.s, (1 if action else -1) if moved else 0)
        if before == 2 and action == 0 and self.how == "paid":  # half of the time, not a fifth
            self.s, reward = (1, 0.0) if self.np_random.random() < 0.5 else (2, 0.5)
        if before == 2 and action == 0 and self.how == "minor":  # never 2, as the table says for a tenth
            self.s = 1 if self.np_random.random() < 0.8 else 3
        self.t += 1
        reward *= self.gain
        if self.how == "jump" and self.np_random.random() < 0.01:
            self.s = 3
        return self.s, reward, terminated, self.how == "cut" and self.t == 4, {}


class Balance(gymnasium.Env):
    """Action 0 in room 0 and action 1 in room 1 earn 1; the other one ends the episode. It counts its steps itself."""

    def __init__(self, limit: int) -> None:
        self.observation_space, self.action_space, self.limit = spaces.Discrete(2), spaces.Discrete(2), limit
        fall = [(1.0, 0, 0.0, True)]
        self.P = {room: {room: [(1.0, 1 - room, 1.0, False)], 1 - room: fall} for room in (0, 1)}
        self.initial_state_distrib = np.array([0.5, 0.5])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.s = 0, int(self.np_random.integers(2))
        return self.s, {}

    def step(self, action):
        _, self.s, reward, terminated = self.P[self.s][action][0]
        self.t += 1
        return self.s, reward, terminated, self.t >= self.limit, {}


gymnasium.register("Compared-Balance-v0", Balance)
gymnasium.register("Compared-v0", Corridor, max_episode_steps=30)
gymnasium.register(
    "Paid-Lake-v0",
    lambda: gymnasium.wrappers.TransformReward(gymnasium.make("FrozenLake-v1"), lambda reward: reward - 0.01),
    max_episode_steps=100,
)


@pytest.mark.parametrize(
    ("env_id", "kwargs", "words"),
    [
        ("Taxi-v4", {"fickle_passenger": True}, "which P does not list"),
        ("Taxi-v4", {"fickle_passenger": True, "fickle_probability": 1.0}, "which P does not list"),
        ("Paid-Lake-v0", {}, "with reward -0.01, which P does not list"),
        ("Compared-v0", {"how": "chance"}, "the most likely states followed"),
        ("Compared-v0", {"how": "jump"}, "led to state 3"),
        ("Compared-v0", {"how": "start"}, "starts in state 0"),
        ("Compared-v0", {"how": "starts"}, "first states of .* not as frequent"),
        ("Compared-v0", {"how": "paid"}, "outcomes of action 0 in state 2 have the frequencies|the most likely"),
        ("Compared-v0", {"how": "minor"}, "outcomes of action 0 in state 2 have the frequencies 0... instead of 0.80"),
        ("Compared-v0", {"how": "cut"}, "truncated after 4 steps"),
        ("Compared-Balance-v0", {"limit": 20}, "truncated after 20 steps"),
        ("Compared-Balance-v0", {"limit": 900}, "truncated after 900 steps"),
        ("Compared-v0", {"how": "redrawn"}, "with reward 2 and the end of the episode, which P does not list"),
        ("Compared-v0", {"how": "hidden"}, "P changed|which P does not list"),
    ],
)
def test_an_environment_that_differs_from_its_table_is_refused(env_id, kwargs, words):
    """Bugs: the exact value of another game in result.json; a reward wrapper that training never sees."""
    with pytest.raises(ConfigError, match=f"does not behave as its transition table P says: .*{words}.*algo=dqn"):
        check_table(GymConfig("x", id=env_id, kwargs=kwargs))


@pytest.mark.parametrize(
    ("env_id", "kwargs"),
    [
        ("Taxi-v4", {}), ("Taxi-v4", {"is_rainy": True}), ("FrozenLake-v1", {}), ("FrozenLake8x8-v1", {}),
        ("FrozenLake-v1", {"is_slippery": False}), ("CliffWalking-v1", {}), ("CliffWalking-v1", {"is_slippery": True}),
        ("rltrain.envs.maze:Maze-v0", {}), ("Compared-v0", {}), ("Compared-v0", {"chance": 0.8}),
        ("Compared-Balance-v0", {"limit": 10**9}),
    ],
)  # fmt: skip
def test_a_true_table_is_accepted(env_id, kwargs):
    """Bug: an environment refused because rare or equal outcomes look like a difference."""
    check_table(GymConfig("x", id=env_id, kwargs=kwargs))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("outside", "outside of the observation space"),
        ("sum", "do not sum to 1"),
        ("negative", "P is negative"),
        ("without its end", "no outcomes of action 0 in state 4"),
    ],
)
def test_a_table_that_compiled_code_would_misread_is_refused(how, words):
    """Bug: an index out of range, which compiled code does not check."""
    with pytest.raises(EnvironmentFailure, match=words):
        transition_table(GymConfig("x", id="Compared-v0", kwargs={"how": how}))


def test_a_table_that_the_constructor_draws_is_refused():
    """Bug: every seed trained in the same world, as the table was that of one constructor."""

    def drawn():
        env = Corridor()
        env.gain = float(np.random.random())
        env.P = {s: {a: [(p, to, env.gain * r, e) for p, to, r, e in rows] for a, rows in of.items()}
                 for s, of in env.P.items()}  # fmt: skip
        return env

    gymnasium.register("Compared-Drawn-v0", drawn, max_episode_steps=30)
    with pytest.raises(ConfigError, match="does not behave as its transition table P says"):
        check_table(GymConfig("x", id="Compared-Drawn-v0"))


@pytest.mark.parametrize(("compared_s", "is_told"), [(0.0, True), (60.0, False)])
def test_a_table_of_a_slow_environment_is_told_to_be_hardly_compared(compared_s, is_told, monkeypatch, capsys):
    """Bug: a score of 7.5, computed exactly from a wrong table, and 5 in the game; nothing was said."""
    monkeypatch.setattr(table, "_compared", set())
    monkeypatch.setattr(table, "COMPARED_S", compared_s)
    check_table(GymConfig("x", id="Compared-v0"))
    assert ("0 of its steps were compared with its transition table" in capsys.readouterr().err) is is_told


def test_a_table_has_the_smallest_limit_of_the_environment():
    """Bug: a table evaluated with 20 steps where the pool plays 5."""
    gymnasium.register("Two-v0", lambda: gymnasium.wrappers.TimeLimit(Corridor(), 5), max_episode_steps=20)
    assert transition_table(GymConfig("x", id="Two-v0")).max_episode_steps == 5
    assert transition_table(GymConfig("x", id="Two-v0", max_episode_steps=3)).max_episode_steps == 3


def test_an_environment_that_has_changed_since_is_refused_by_resume(command, monkeypatch):
    """Bug: a resumed run learns from a table, and its environment plays another game by now."""
    monkeypatch.setattr("rltrain.envs.tabular.table._compared", set())
    words = ["env=gym", "env.id=Compared-v0", "algo=q_learning", "progress=false", "total_steps=300"]
    run = command(*words).folder
    monkeypatch.setitem(gymnasium.registry, "Compared-v0", gymnasium.spec("Paid-Lake-v0"))
    monkeypatch.setattr("rltrain.envs.tabular.table._compared", set())
    done = command("resume", run, "total_steps=600", "progress=false")
    assert done.code == 2 and "does not behave as its transition table P says" in done.last_line, done.err
    assert not (run / "config.resume-1.yaml").exists()


def test_many_equal_chances_are_no_reason_to_refuse_a_table():
    """Bug: Taxi was refused when the machine was so busy that only 20 episodes were compared. Sorted by what was seen,
    the 300 equal first states fell into groups that were never seen and groups that always were."""
    chances = [1 / 300] * 300
    generator = np.random.default_rng(0)
    for num_episodes in (15, 20, 50, 60, 100, 300, 2000):
        for _ in range(20):
            counts = generator.multinomial(num_episodes, chances).tolist()
            assert not _is_unlikely([_chi_square(counts, chances)])
    half = generator.multinomial(300, [1 / 150] * 150 + [0.0] * 150).tolist()
    assert _is_unlikely([_chi_square(half, chances)])
