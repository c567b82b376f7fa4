"""The deduplicated replay against a naive one, and hand-worked numbers."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import Feeder, build, loaded

from rltrain.buffers import replay as replay_module
from rltrain.buffers.batch import Transition
from rltrain.buffers.replay import Replay, bytes_per_transition

NO = np.zeros(1, np.bool_)
YES = np.ones(1, np.bool_)


def add(replay: Replay, frame: int, *, first=NO, terminated=NO, truncated=NO, next_first=None, next_frame=None) -> None:
    """One step of one environment with reward 1 and frames that count up."""
    ended = terminated | truncated
    replay.add(
        Transition(
            np.full((1, 1, 1, 1), frame),
            np.array([frame]),
            np.ones(1, np.float32),
            terminated,
            truncated,
            np.full((1, 1, 1, 1), frame + 1 if next_frame is None else next_frame),
            first,
            ended if next_first is None else next_first,
        )
    )


CASES = {
    "num_envs": st.sampled_from([1, 3, 8]),
    "stack_num": st.integers(1, 5),
    "n_step": st.integers(1, 5),
    "spare": st.integers(1, 12),
    "end_rate": st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    "num_steps": st.integers(1, 50),
    "seed": st.integers(0, 2**32),
}


def equals_naive_replay(num_envs, stack_num, n_step, spare, end_rate, num_steps, seed):
    feeder = Feeder(build(num_envs, stack_num + n_step + spare, stack_num, n_step), stack_num, n_step, 0.9, seed)
    for step in range(num_steps):
        feeder.step(end_rate)
        if step % 7 == 6:
            feeder.check()
        if step % 19 == 18:
            feeder.end_episodes()
    feeder.check()


@settings(max_examples=200, deadline=None)
@given(**CASES)
def test_equals_naive_replay_under_random_ends(**case):
    equals_naive_replay(**case)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None)
@given(**CASES)
def test_equals_naive_replay_in_ten_thousand_cases(**case):
    equals_naive_replay(**case)


@pytest.mark.parametrize("num_envs", [1, 3, 8])
def test_a_long_run_of_the_counter_game_samples_every_slot_of_the_ring(num_envs):
    replay = build(num_envs, 50, 4, 3)
    feeder, seen = Feeder(replay, 4, 3, 0.9, 1), np.zeros(replay.capacity, np.bool_)
    for _ in range(400):
        feeder.step(0.1)
        if replay.size:
            seen[replay.sample(32).index] = True
    assert feeder.check() > 30 * num_envs
    assert seen[0] and seen[-1] and seen.all()


def test_control_the_naive_check_notices_a_shifted_frame():
    replay = build(1, 20, 2, 1)
    feeder = Feeder(replay, 2, 1, 0.9, 0)
    for _ in range(10):
        feeder.step(0.0)
    feeder.check()
    replay._frames.rows[4] += 1
    with pytest.raises(AssertionError):
        feeder.check()


@pytest.mark.parametrize("num_envs", [1, 3, 8])
def test_the_number_stored_is_the_sum_of_episode_lengths(num_envs):
    feeder = Feeder(build(num_envs, 500, 4, 3), 4, 3, 0.9, 2)
    for _ in range(200):
        feeder.step(0.2)
    feeder.end_episodes()
    assert feeder.replay.size == 200 * num_envs == feeder.check()


@pytest.mark.parametrize(
    ("ends", "expected_reward", "expected_discount", "expected_next"),
    [
        ({}, 2.9701, 0.970299, 13),
        ({1: "terminated"}, 1.99, 0.0, 12),
        ({1: "truncated"}, 1.99, 0.9801, 12),
        ({2: "terminated"}, 2.9701, 0.0, 13),
    ],
)
def test_n_step_return_at_episode_ends(ends, expected_reward, expected_discount, expected_next):
    replay = build(1, 20, 1, 3, gamma=0.99)
    for t in range(3):
        add(replay, 10 + t, first=YES if t == 0 else NO, **({ends[t]: YES} if t in ends else {}))
        if t in ends:
            break
    batch = replay.gather(np.array([0]), np.ones(1, np.float32))
    assert replay.valid[0]
    assert batch.reward[0] == pytest.approx(expected_reward)
    assert batch.discount[0] == pytest.approx(expected_discount)
    assert batch.next_obs.item() == expected_next  # the true last observation, not the one after the reset


def test_a_transition_waits_for_its_window():
    replay = build(1, 20, 1, 3)
    sizes = []
    for t in range(5):
        add(replay, 1 + t, first=YES if t == 0 else NO, truncated=YES if t == 4 else NO)
        sizes.append(replay.size)
    assert sizes == [0, 0, 1, 2, 5]


def test_a_lost_life_ends_the_return_but_not_the_stack():
    replay = build(1, 20, 3, 1)
    add(replay, 1, first=YES)
    add(replay, 2, terminated=YES, next_first=NO)
    add(replay, 3)
    assert replay.size == 3  # no slot was spent on the lost life
    batch = replay.gather(np.array([1, 2]), np.ones(2, np.float32))
    assert batch.discount.tolist() == pytest.approx([0, 0.9])
    assert batch.obs.reshape(2, 3).tolist() == [[0, 1, 2], [1, 2, 3]]
    assert batch.next_obs.reshape(2, 3).tolist() == [[1, 2, 3], [2, 3, 4]]


def test_a_game_over_ends_both_and_keeps_the_final_frame():
    replay = build(1, 20, 3, 1)
    add(replay, 1, first=YES)
    add(replay, 2, truncated=YES, next_frame=99)
    add(replay, 50, first=YES)
    assert np.flatnonzero(replay.valid).tolist() == [0, 1, 3]  # slot 2 is the final frame
    batch = replay.gather(np.array([1, 3]), np.ones(2, np.float32))
    assert batch.obs.reshape(2, 3).tolist() == [[0, 1, 2], [0, 0, 50]]
    assert batch.next_obs.reshape(2, 3).tolist() == [[1, 2, 99], [0, 50, 51]]


def test_steps_out_of_order_are_refused():
    replay = build(1, 20, 1, 1)
    with pytest.raises(ValueError, match="first"):
        add(replay, 1)
    add(replay, 1, first=YES)
    with pytest.raises(ValueError, match="first"):
        add(replay, 1, first=YES)
    with pytest.raises(ValueError, match="reset"):
        add(replay, 2, next_first=YES)


def test_sampling_is_uniform_over_all_environments():
    replay = build(3, 30, 2, 2)
    feeder = Feeder(replay, 2, 2, 0.9, 3)
    for _ in range(100):
        feeder.step(0.3)
    counts = np.bincount(replay.sample(100_000).index, minlength=replay.capacity)
    assert counts[~replay.valid].sum() == 0
    expected = 100_000 / replay.size
    chi_square = ((counts[replay.valid] - expected) ** 2 / expected).sum()
    freedom = replay.size - 1
    assert abs(chi_square - freedom) < 4 * np.sqrt(2 * freedom)


def test_almost_empty_and_empty_replays():
    replay = build(1, 1000, 1, 50)
    with pytest.raises(ValueError, match="no complete"):
        replay.sample(1)
    for t in range(50):
        add(replay, 1 + t, first=YES if t == 0 else NO)
    assert replay.sample(8).index.tolist() == [0] * 8


def test_a_ring_too_small_for_one_window_is_refused():
    with pytest.raises(ValueError, match="too small"):
        build(2, 7, 4, 3)


def test_saving_keeps_everything_that_sampling_depends_on():
    for steps in (10, 200):  # part of the ring, and all of it
        feeder = Feeder(build(3, 40, 4, 3, seed=5), 4, 3, 0.9, 4)
        for _ in range(steps):
            feeder.step(0.2)
        state = feeder.replay.state_dict()
        assert state["valid"].shape[1] <= min(2 * steps + 2, 40)
        other = build(3, 40, 4, 3, seed=6)
        other.load_state_dict(loaded(state))
        one, two = feeder.replay.sample(16), other.sample(16)
        for name in ("obs", "action", "reward", "discount", "next_obs", "weight", "index"):
            np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
        feeder.replay = feeder.inner = other
        feeder.end_episodes()
        for _ in range(60):
            feeder.step(0.2)
            feeder.check()


def test_saved_state_of_another_shape_is_refused():
    state = build(3, 40, 4, 3).state_dict()
    with pytest.raises(ValueError, match="n_step 3, this one 2"):
        build(3, 40, 4, 2).load_state_dict(state)


@pytest.mark.parametrize(
    ("name", "value"), [("head", 40), ("head", -1), ("run", 4), ("open", 2), ("history", 4), ("head", 0.5)]
)
def test_saved_numbers_that_index_memory_are_checked(name, value):
    """Bugs: a head outside of the ring writes over another environment's slots, or ends in an IndexError at a step."""
    feeder = Feeder(build(3, 40, 4, 3), 4, 3, 0.9, 4)
    for _ in range(10):
        feeder.step(0.2)
    state = loaded(feeder.replay.state_dict())
    changed = state[name].astype(type(value)) if name == "open" or value == 0.5 else state[name].copy()
    changed.flat[0] = value
    with pytest.raises(ValueError, match=f"the saved replay's {name} is"):
        build(3, 40, 4, 3).load_state_dict(state | {name: changed})
    for key, wrong in (("used", 41), ("used", -1), ("adds", -1), ("rows", 0)):
        with pytest.raises(ValueError, match="the saved"):
            build(3, 40, 4, 3).load_state_dict(state | {"frame": state["frame"] | {key: wrong}})


def test_saved_actions_and_states_that_no_network_has_are_refused():
    """Bug: action 1000 of 2 ended in an index error of the first update, and on a GPU in a failed kernel."""
    rng = np.random.default_rng(0)

    def states(num_actions=2, num_states=5):
        made = functools.partial(Replay, num_actions=num_actions, num_states=num_states)
        return made(40, 2, (), np.int64, (), np.int64, 1, 1, 0.99, rng)

    replay = states(None, None)
    first, no = np.ones(2, np.bool_), np.zeros(2, np.bool_)
    for frame in range(5):
        state = np.full(2, frame)
        replay.add(Transition(state, state % 2, np.ones(2, np.float32), no, no, (state + 1) % 5, first, no))
        first = no
    state = loaded(replay.state_dict())
    states().load_state_dict(state)
    for limits, words in (((1, 5), r"action is outside 0\.\.0"), ((2, 4), r"frame is outside 0\.\.3")):
        with pytest.raises(ValueError, match=f"the saved replay's {words}"):
            states(*limits).load_state_dict(state)
    with pytest.raises(ValueError, match="the saved replay has"):
        states().load_state_dict(state | {"frame": state["frame"] | {"adds": 10**30}})


def test_atari_frames_cost_under_7500_bytes_each():
    assert bytes_per_transition((1, 84, 84), np.uint8, (), np.int64) == 7072
    generator = np.random.default_rng(0)
    replay = Replay(10_000, 8, (1, 84, 84), np.uint8, (), np.int64, 4, 3, 0.99, generator)
    assert replay.nbytes / 10_000 == 7072


@pytest.mark.parametrize(
    ("frame_shape", "stack_num", "obs_shape"),
    [((1, 5, 4), 4, (4, 5, 4)), ((3, 5, 4), 2, (6, 5, 4)), ((7,), 1, (7,)), ((), 1, ())],
)
def test_shapes_and_types_of_pixels_vectors_and_discrete_observations(frame_shape, stack_num, obs_shape):
    dtype = np.uint8 if len(frame_shape) == 3 else np.float32 if frame_shape else np.int64
    generator = np.random.default_rng(0)
    replay = Replay(40, 2, frame_shape, dtype, (3,), np.float32, stack_num, 1, 0.99, generator)
    first, no, frame = np.ones(2, np.bool_), np.zeros(2, np.bool_), np.ones((2, *frame_shape), dtype)
    for _ in range(5):
        action, reward = np.ones((2, 3), np.float32), np.ones(2, np.float32)
        replay.add(Transition(frame, action, reward, no, no, frame * 2, first, no))
        frame, first = frame * 2, no
    batch = replay.sample(6)
    assert batch.obs.shape == batch.next_obs.shape == (6, *obs_shape)
    assert batch.obs.dtype == dtype and batch.action.shape == (6, 3) and batch.index.dtype == np.int64
    assert batch.reward.dtype == batch.discount.dtype == batch.weight.dtype == np.float32


def test_batches_gathered_at_once_are_those_of_samples_cut_in_pieces(monkeypatch):
    """Bugs: a batch comes twice or is left out where the number does not divide; parts of a batch from two draws."""
    monkeypatch.setattr(replay_module, "GATHERED_BYTES", 3 * 2 * 8 * 2 * np.dtype(np.int64).itemsize)  # three batches
    one, two = (Feeder(build(3, 40, 2, 3, seed=5), 2, 3, 0.9, 4) for _ in range(2))
    for _ in range(100):
        one.step(0.2), two.step(0.2)
    batches = list(one.replay.batches(7, 8))
    assert len(batches) == 7
    expected = [two.replay.sample(24), two.replay.sample(24), two.replay.sample(8)]
    for name in ("obs", "action", "reward", "discount", "next_obs", "weight", "index"):
        got = np.concatenate([getattr(batch, name) for batch in batches])
        np.testing.assert_array_equal(got, np.concatenate([getattr(batch, name) for batch in expected]))


def test_actors_add_the_steps_of_their_own_environments():
    """Bugs: rows of one actor in the rings of another; an episode that goes on in place of a lost actor's."""
    rng = np.random.default_rng(0)
    whole, parts = (build(5, 40, 3, 2) for _ in range(2))
    steps, first = [], np.ones(5, np.bool_)
    for number in range(60):
        terminated, truncated = rng.random((2, 5)) < 0.1 * (number < 59)
        truncated &= ~terminated
        ended = terminated | truncated
        frame, after = (rng.integers(0, 256, (5, 1, 1, 1)) for _ in range(2))
        action, reward = rng.integers(0, 4, 5), rng.random(5, np.float32)
        steps.append(Transition(frame, action, reward, terminated, truncated, after, first, ended))
        first = ended
    for step in steps:
        whole.add(step)
    for start in range(0, 60, 6):  # chunks of 6 steps, the second actor's first
        for first_env, end in ((2, 5), (0, 2)):
            for step in steps[start : start + 6]:
                parts.add(Transition._make(field[first_env:end] for field in step), first_env)
    assert whole.size == parts.size > 100
    index = np.flatnonzero(whole.valid)
    one, other = (replay.gather(index, np.ones(len(index), np.float32)) for replay in (whole, parts))
    for name, value in vars(one).items():
        assert np.array_equal(value, getattr(other, name)), name
    again = Transition._make(field[2:5] for field in steps[0])  # all begin
    assert parts.state_dict()["open"].all(), "the control"
    parts.end_episodes(range(2, 5))
    assert parts.state_dict()["open"].tolist() == [True, True, False, False, False]
    parts.add(again, 2)
    with pytest.raises(ValueError, match="next_first"):
        parts.add(again, 2)
