"""The pool of gymnasium environments, in this process and in workers."""

import importlib
import multiprocessing
import os
import random
import sys
import threading
import time
from pathlib import Path

import gymnasium
import numba
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from rltrain.config import plugin_modules
from rltrain.config.environments import GymConfig
from rltrain.envs.gym import make
from rltrain.envs.gym.family import make_pool, make_viewer
from rltrain.envs.gym.make import make_env, spaces
from rltrain.errors import ConfigError, EnvironmentFailure
from rltrain.system import global_random

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def _counter_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))


def test_two_modules_may_have_the_same_id(tmp_path, monkeypatch):
    """Bug: in a sweep over two modules, all jobs after the first of each played the game of the second."""
    for name, start in (("twin_a", 0), ("twin_b", 1)):
        code = (
            "import gymnasium\n"
            "class Twin(gymnasium.Env):\n"
            f"    observation_space = gymnasium.spaces.Discrete(3 + {start})\n"
            "    action_space = gymnasium.spaces.Discrete(2)\n"
            f"gymnasium.register('Twin-v0', Twin, max_episode_steps=5 + {start})\n"
        )
        (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    gymnasium.register("Twin-v0", lambda: gymnasium.make("Taxi-v4").unwrapped, max_episode_steps=4)
    names = ("twin_a:", "twin_b:", "twin_a:", "", "twin_b:", "")
    configs = [GymConfig("x", id=f"{name}Twin-v0") for name in names]
    assert [spaces(config)[0].n for config in configs] == [3, 4, 3, 500, 4, 500]
    assert [make.known_limit(config) for config in configs] == [5, 6, 5, 4, 6, 4]


def counter(**fields):
    return GymConfig("counter", id="counter:Counter-v0", **fields)


def collect(pool, num_steps, seed=0):
    """Steps as (obs acted on, TimeStep)."""
    obs, taken = pool.reset(seed), []
    for _ in range(num_steps):
        step = pool.step(np.zeros(pool.num_envs, np.int64))
        taken.append((obs, step))
        obs = step.obs
    return taken


def check_counter(taken, num_envs):
    """The property itself: raises AssertionError where a transition spans episodes or a step is lost."""
    transitions = np.zeros(num_envs, int)
    length_sum = np.zeros(num_envs, int)
    kinds = set()
    for obs, step in taken:
        assert (step.next_obs[:, 0] == obs[:, 0]).all(), "a transition spans two episodes"
        assert (step.next_obs[:, 1] == obs[:, 1] + 1).all(), "a step is lost or repeated"
        ended = step.terminated | step.truncated
        assert not (step.terminated & step.truncated).any()
        assert (step.first == ended).all()
        assert (step.obs[ended, 0] == obs[ended, 0] + 1).all() and (step.obs[ended, 1] == 0).all()
        assert (step.obs[~ended] == step.next_obs[~ended]).all()
        assert (step.reward == step.next_obs[:, 1]).all() and step.reward.dtype == np.float32
        transitions += 1
        assert [episode.env_index for episode in step.episodes] == np.flatnonzero(ended).tolist()
        for episode in step.episodes:
            length = int(step.next_obs[episode.env_index, 1])
            assert episode.length_steps == episode.length_frames == length
            assert episode.reward == length * (length + 1) / 2
            length_sum[episode.env_index] += length
            kinds.add((bool(step.terminated[episode.env_index]), length == 20))
    assert (transitions == length_sum + taken[-1][1].obs[:, 1]).all(), "transitions other than the episodes' steps"
    return kinds


@pytest.mark.parametrize("num_envs", [1, 3, 8])
def test_no_transition_spans_episodes_and_none_is_lost(num_envs):
    """Bugs: next_obs taken after the reset; a step wasted on an autoreset; statistics of the wrong environment."""
    pool = make_pool(counter(), num_envs)
    kinds = check_counter(collect(pool, 24_000 // num_envs), num_envs)
    pool.close()
    pool.close()
    # A control: ends of every kind did occur (the limit of 20 steps, as well as before it).
    assert {(True, False), (False, False), (False, True)} <= kinds


def test_the_property_can_fail():
    """Control: the check refuses next_obs taken from the new episode."""
    taken = collect(make_pool(counter(), 3), 100)
    wrong = [(obs, type(step)(**{**vars(step), "next_obs": step.obs})) for obs, step in taken]
    with pytest.raises(AssertionError, match="two episodes"):
        check_counter(wrong, 3)


def test_workers_give_the_same_transitions_as_this_process_and_leave_none_behind():
    """Bugs: environments seeded by worker, shares swapped, episodes numbered within a worker, zombies."""
    here, there = make_pool(counter(), 5), make_pool(counter(workers=2), 5)
    for _ in range(2):  # the second time after a reset in the middle of a run
        ours, theirs = collect(here, 150, seed=3), collect(there, 150, seed=3)
        check_counter(theirs, 5)
        for (_, a), (_, b) in zip(ours, theirs, strict=True):
            assert (a.obs == b.obs).all() and (a.next_obs == b.next_obs).all() and a.episodes == b.episodes
    there.close()
    there.close()
    assert multiprocessing.active_children() == []


def test_environment_i_depends_on_seed_and_i_alone():
    """Bugs: all environments alike; seeds that change with num_envs; seed + i for a seed."""
    lengths = {}
    for seed, num_envs in ((0, 2), (0, 4), (1, 4)):
        taken = collect(make_pool(counter(), num_envs), 200, seed)
        for i in range(num_envs):
            lengths[seed, num_envs, i] = tuple(np.flatnonzero([step.first[i] for _, step in taken]))
    assert lengths[0, 2, 0] == lengths[0, 4, 0] and lengths[0, 2, 1] == lengths[0, 4, 1]
    assert len({lengths[seed, 4, i] for seed in (0, 1) for i in range(4)}) == 8


class Unseeded(gymnasium.Env):
    """Its `reset` does not pass the seed on."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (gymnasium's own name and form)
    observation_space = Box(0, 256, (1,), np.float32)
    action_space = Discrete(2)

    def __init__(self, own=False, render_mode=None):
        if own:
            self._np_random = np.random.RandomState(5)
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        number = self._np_random.randint(256) if self._np_random.__class__ is np.random.RandomState else None
        self.number = self.np_random.integers(256) if number is None else number
        return np.full(1, self.number, np.float32), {}

    def render(self):
        return np.full((40, 40, 3), self.number, np.uint8)


def test_the_seed_reaches_an_environment_that_does_not_pass_it_on():
    """Bug: two runs with one seed have other episodes, and a film shows another game than the scored one."""
    gymnasium.register("Unseeded-v0", Unseeded)
    config = GymConfig("x", id="Unseeded-v0")
    first, same, other = (make_pool(config, 4).reset(seed)[:, 0] for seed in (0, 0, 1))
    assert (first == same).all() and len(set(first.tolist()) | set(other.tolist())) > 4
    assert make_viewer(config).reset(0)[0, 0, 0] == first[0]
    own = [make_pool(GymConfig("x", id="Unseeded-v0", kwargs={"own": True}), 1).reset(seed) for seed in (0, 1)]
    assert own[0] == own[1] == np.random.RandomState(5).randint(256), "a generator of its own was replaced"


def test_arrays_belong_to_the_receiver():
    """Bug: a buffer reused, so that a stored transition changes later."""
    pool = make_pool(counter(), 2)
    taken = collect(pool, 50)
    before = [step.obs.copy() for _, step in taken]
    for _, step in taken:
        step.next_obs[...] = -1
    assert all((a == step.obs).all() for a, (_, step) in zip(before, taken, strict=True))


def test_spaces_and_dtypes():
    """Bugs: float64 observations; discrete ones as [B, 1]; continuous actions cut to one number."""
    cases = {"CartPole-v1": (np.float32, (4,)), "Taxi-v4": (np.int64, ()), "Pendulum-v1": (np.float32, (3,))}
    for name, (dtype, shape) in cases.items():
        config = GymConfig("x", id=name)
        pool = make_pool(config, 3)
        obs = pool.reset(0)
        assert obs.dtype == dtype and obs.shape == (3, *shape)
        assert (pool.frame_space, pool.action_space) == spaces(config)
        continuous = pool.action_space.shape != ()
        step = pool.step(np.zeros((3, 1), np.float32) if continuous else np.zeros(3, np.int64))
        assert step.next_obs.dtype == dtype and step.next_obs.shape == obs.shape
        assert pool.frame_space.contains(step.obs[0])
        pool.close()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("theirs", "ours", "action", "arrives"),
    [
        (Discrete(3, start=-1), Discrete(3), [0, 2], [[-1] * 3, [1] * 3]),
        (MultiDiscrete([2, 5, 3]), MultiDiscrete([2, 5, 3]), [[1, 4, 0], [0, 2, 2]], [[1, 4, 0], [0, 2, 2]]),
        (MultiDiscrete([2, 5, 3], start=[1, 0, -2]), MultiDiscrete([2, 5, 3]), [[1, 4, 0], [0, 0, 2]],
         [[2, 4, -2], [1, 0, 0]]),
        (MultiBinary(3), MultiDiscrete([2, 2, 2]), [[1, 0, 1], [0, 0, 0]], [[1, 0, 1], [0, 0, 0]]),
    ],
)  # fmt: skip
def test_choices_count_from_zero_and_reach_the_environment_as_it_counts_them(theirs, ours, action, arrives, workers):
    """Bugs: several choices cut to one; rows given to the wrong environment; a first action other than 0 ignored."""
    pool = make_pool(GymConfig("x", id="counter:Buttons-v0", kwargs={"action_space": theirs}, workers=workers), 2)
    assert pool.action_space == ours
    pool.reset(0)
    assert pool.step(np.array(action)).obs.tolist() == arrives
    pool.close()


def test_own_time_limit_truncates():
    """Bug: max_episode_steps ignored, or taken for an end without value."""
    pool = make_pool(GymConfig("x", id="CartPole-v1", max_episode_steps=4), 2)
    pool.reset(0)
    steps = [pool.step(np.zeros(2, np.int64)) for _ in range(4)]
    assert not any(step.first.any() for step in steps[:3])
    assert steps[3].truncated.all() and not steps[3].terminated.any()
    assert steps[3].episodes[0].length_steps == 4


def test_wrong_configurations_are_refused_with_a_hint():
    """Bugs: tracebacks of gymnasium; a missing package taken for a wrong configuration."""
    with pytest.raises(ConfigError, match=r"env\.id"):
        GymConfig("x")
    with pytest.raises(ConfigError, match="CartPole-v1"):
        spaces(GymConfig("x", id="CartPool-v1"))
    with pytest.raises(ConfigError, match="Taxi-v4"):
        spaces(GymConfig("x", id="Taxi-v3"))
    with pytest.raises(ConfigError, match="no_such"):
        spaces(GymConfig("x", id="CartPole-v1", kwargs={"no_such": 1}))
    with pytest.raises(ConfigError, match="observations"):
        spaces(GymConfig("x", id="Blackjack-v1"))
    with pytest.raises(EnvironmentFailure):
        make_env(GymConfig("x", id="no_such_package_here:Thing-v0"))
    # Bug: what was typed, env.id=my_module:Name-v0, was the advice.
    with pytest.raises(ConfigError, match="the module colorsys registers no environment: call gymnasium"):
        make_env(GymConfig("x", id="colorsys:NoSuch-v0"))
    with pytest.raises(EnvironmentFailure, match=r"write it without \.py: env\.id=counter:Counter-v0"):
        make_env(GymConfig("x", id="counter.py:Counter-v0"))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_environment_is_reported_as_such(workers):
    """Bug: a worker's error lost, the trainer waiting for ever."""
    pool = make_pool(counter(kwargs={"fail_at": 1}, workers=workers, max_restarts=0), 2)
    pool.reset(0)
    with pytest.raises(EnvironmentFailure, match="broken"):
        pool.step(np.zeros(2, np.int64))
    pool.close()


def test_an_environment_that_raises_in_its_reset_is_reported_as_such():
    """Bug: taken for a bug of ours."""
    pool = make_pool(counter(kwargs={"fail_at": -1}), 1)
    with pytest.raises(EnvironmentFailure, match="broken"):
        pool.reset(0)
    pool.close()


def test_a_killed_worker_is_reported():
    """Bug: waiting for ever for the answer of a dead process."""
    pool = make_pool(counter(workers=2, max_restarts=0), 2)
    pool.reset(0)
    multiprocessing.active_children()[0].kill()
    with pytest.raises(EnvironmentFailure, match="worker"):
        for _ in range(10):
            pool.step(np.zeros(2, np.int64))
    pool.close()


def test_a_hint_names_no_environment_whose_package_is_missing(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in ("mujoco", "jax") else name)
    offered = make._installed()
    assert "CartPole-v1" in offered and "LunarLander-v3" in offered
    assert not [name for name in offered if name.startswith(("Ant-", "Hopper-", "phys2d/", "tabular/"))]


def test_a_hint_for_an_id_of_a_module_is_among_those_of_the_module(tmp_path, monkeypatch):
    """Bug: `Min-v0` of a module that registers `Mine-v0` was said to mean DoubleDunk."""
    (tmp_path / "near_ids.py").write_text(
        "import gymnasium\n"
        "class Mine(gymnasium.Env): pass\n"
        "gymnasium.register('NearIdsMine-v0', Mine)\n"
        "gymnasium.register('NearIdsOther-v0', 'near_ids:Mine')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for typed, hint in (
        ("NearIdsMin-v0", "did you mean 'near_ids:NearIdsMine-v0'"),
        ("Zap-v0", "known: near_ids:NearIdsMine-v0, near_ids:NearIdsOther-v0"),
    ):
        with pytest.raises(ConfigError, match=hint):
            spaces(GymConfig("x", id=f"near_ids:{typed}"))


def test_an_environment_in_a_factory_that_does_not_exist_is_named():
    """Bug: "unknown environment 'WithTaxi-v0'; did you mean 'WithTaxi-v0'?"."""
    gymnasium.register("WithTaxi-v0", lambda **kwargs: gymnasium.make("Taxi-v3", **kwargs))
    with pytest.raises(EnvironmentFailure, match=r"'WithTaxi-v0' raised DeprecatedEnv: .*Taxi-v4.*test_gym\.py"):
        spaces(GymConfig("x", id="WithTaxi-v0"))
    with pytest.raises(ConfigError, match="unknown environment 'Taxi-v3'"):
        spaces(GymConfig("x", id="Taxi-v3"))


class Reseeding(Unseeded):
    """Hands the seed of each reset on to the global generators; it is None after the first."""

    def reset(self, *, seed=None, options=None):
        np.random.seed(seed)
        random.seed(seed)
        self.number = np.random.randint(128) + random.randrange(128)
        return np.full(1, self.number, np.float32), {}

    def step(self, action):
        return np.full(1, self.number, np.float32), float(self.number), True, False, {}


def test_a_reset_that_seeds_the_global_generators_with_none_is_reproducible():
    """Bug: two runs with one seed had other episodes from the second one on."""
    gymnasium.register("Reseeding-v0", Reseeding)

    def numbers(seed):
        pool = make_pool(GymConfig("x", id="Reseeding-v0"), 2)
        pool.reset(seed)
        return [pool.step(np.zeros(2, np.int64)).reward.tolist() for _ in range(10)]

    first = numbers(0)
    assert first == numbers(0) != numbers(1)
    assert len({tuple(each) for each in first}) > 5, "the control: episodes differ"


def test_what_a_step_imports_draws_the_same_in_each_process(monkeypatch, tmp_path):
    """Bug: a world that is drawn by an import inside of `reset` depended on the episode."""
    monkeypatch.syspath_prepend(tmp_path)
    plugin_modules.look_in_working_directory()
    (tmp_path / "late_world.py").write_text("import random\nimport late_world_part as part\nX = random.random()")
    (tmp_path / "late_world_part.py").write_text("import numpy as np\nX = np.random.random()")
    worlds = []
    for number in (1, 2):
        global_random.seed(number)
        if number == 2:
            importlib.import_module("late_world_part")  # first, by another way
        world = importlib.import_module("late_world")
        worlds.append((world.X, world.part.X))
        for name in ("late_world", "late_world_part"):
            monkeypatch.delitem(sys.modules, name)
    assert worlds[0] == worlds[1] and worlds[0][0] != worlds[0][1]


def test_forked_processes_draw_different_numbers_that_the_seed_determines():
    """Bug: the processes of an environment's pool, each of which calls `np.random.seed()`, drew the same."""

    def draws():
        global_random.seed(5)
        drawn = []
        for _ in range(3):
            end, start = os.pipe()
            if os.fork() == 0:
                np.random.seed()
                os.write(start, str(np.random.random()).encode())
                os._exit(0)
            os.close(start)
            drawn.append(os.read(end, 100))
            os.close(end)
            os.wait()
        return drawn

    first = draws()
    assert len(set(first)) == 3 and first == draws()


def test_an_import_in_a_thread_leaves_the_generators(monkeypatch, tmp_path):
    """Bug: meanwhile the main thread drew from the fixed ones."""
    monkeypatch.syspath_prepend(tmp_path)
    plugin_modules.look_in_working_directory()
    (tmp_path / "slow_of_thread.py").write_text("import time\ntime.sleep(0.3)")
    random.seed(3)
    wanted = [random.random() for _ in range(10)]
    random.seed(3)
    thread = threading.Thread(target=importlib.import_module, args=["slow_of_thread"])
    thread.start()
    drawn = [(random.random(), time.sleep(0.05))[0] for _ in range(10)]
    thread.join()
    assert drawn == wanted


def test_numba_that_is_imported_late_gets_a_seed(monkeypatch):
    """Bug: two runs with one seed had other episodes if a `step` imported compiled code."""

    @numba.njit
    def draw():
        return np.random.random()

    places, drawn = global_random._of_numba(), []
    for number in (1, 1, 2):
        global_random.seed(number)
        draw()  # as the system's seed would do
        with monkeypatch.context() as patch:
            patch.setattr(global_random, "_of_numba", lambda: [])
            states = global_random._states()
        if number == 2:
            draw()
        global_random._restore(states)
        drawn.append(draw())
    assert places and drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("plugin", [False, True])
def test_what_a_module_draws_when_it_is_imported_is_the_same_in_each_process(plugin, monkeypatch, request):
    """Bug: each process had another world, so a run that scores 10 was evaluated and resumed in other games."""
    monkeypatch.syspath_prepend(request.path.parent)
    monkeypatch.setattr(plugin_modules, "LOADED", [])
    worlds = []
    for number in (1, 2):
        monkeypatch.delitem(sys.modules, "drawn_at_import", raising=False)
        gymnasium.registry.pop("Imported-v0", None)
        global_random.seed(number)
        before = random.getstate()
        if plugin:
            plugin_modules.LOADED.clear()
            plugin_modules.load(["drawn_at_import"])
        else:
            make_env(GymConfig("x", id="drawn_at_import:Imported-v0"))
        assert random.getstate() == before, "the constructors after it would draw something else"
        worlds.append(sys.modules["drawn_at_import"].WORLD.tolist())
    assert worlds[0] == worlds[1] and worlds[0][0] != worlds[0][1]
