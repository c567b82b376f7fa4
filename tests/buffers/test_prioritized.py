"""Prioritized sampling: hand-worked numbers, and the same slots as uniform sampling."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import Feeder, build, loaded

from rltrain.buffers.prioritized import PrioritizedReplay
from rltrain.errors import NonFiniteError


def filled(num: int, alpha: float, beta: float, epsilon: float = 0.0, capacity: int = 30) -> PrioritizedReplay:
    """One environment, `num` transitions of one open episode, in slots 0 to num - 1."""
    replay = PrioritizedReplay(build(1, capacity, 1, 1), alpha, beta, epsilon)
    feeder = Feeder(replay, 1, 1, 0.9, 0)
    for _ in range(num):
        feeder.step(0.0)
    return replay


def test_probabilities_are_proportional_to_priorities():
    replay = filled(4, 1.0, 1.0)
    replay.update_priorities(np.arange(4), torch.from_numpy(np.array([1.0, -2.0, 3.0, -4.0], np.float32)))
    expected = 100_000 * np.array([0.1, 0.2, 0.3, 0.4])
    # Independent draws for the chi-square: stratified ones come closer to the expected counts than chance allows.
    mass = replay.replay.generator.random(100_000) * replay._tree.total
    counts = np.bincount(replay._tree.find(mass), minlength=4)
    assert ((counts - expected) ** 2 / expected).sum() < 16.27  # 3 degrees of freedom, p = .001
    single = np.bincount([replay.sample(1).index[0] for _ in range(2000)], minlength=4)
    assert ((single - expected / 50) ** 2 / (expected / 50)).sum() < 16.27
    stratified = np.bincount(replay.sample(100_000).index, minlength=4)
    assert stratified == pytest.approx(expected, abs=2)


def test_weights_match_hand_numbers():
    replay = filled(4, 1.0, 1.0)
    replay.update_priorities(np.arange(4), torch.from_numpy(np.array([1.0, 2.0, 3.0, 4.0])))
    batch = replay.sample(100)
    assert batch.weight.dtype == np.float32
    assert batch.weight == pytest.approx(np.array([1, 1 / 2, 1 / 3, 1 / 4])[batch.index], rel=1e-6)
    replay.beta = 0.5  # as the loop anneals it
    batch = replay.sample(100)
    assert batch.weight == pytest.approx((np.array([1, 1 / 2, 1 / 3, 1 / 4]) ** 0.5)[batch.index], rel=1e-6)


def test_beta_0_gives_weights_of_1_and_alpha_0_uniform_sampling():
    replay = filled(4, 0.0, 0.0)
    replay.update_priorities(np.arange(4), torch.from_numpy(np.array([1.0, 2.0, 3.0, 400.0])))
    assert replay.sample(16).weight.tolist() == [1] * 16
    assert np.bincount(replay.sample(400).index)[:4] == pytest.approx([100] * 4, abs=1)


@pytest.mark.parametrize("epsilon", [0.0, 1e-2])
def test_new_transitions_get_exactly_the_largest_priority_seen(epsilon):
    replay = PrioritizedReplay(build(1, 30, 1, 1), 0.6, 0.4, epsilon)
    feeder = Feeder(replay, 1, 1, 0.9, 0)
    feeder.step(0.0)
    assert replay.priorities[0] == 1.0
    replay.update_priorities(np.array([0]), torch.from_numpy(np.array([-5.7])))
    feeder.step(0.0)
    replay.update_priorities(np.array([0]), torch.from_numpy(np.array([0.1])))
    feeder.step(0.0)
    assert replay.priorities[[1, 2]].tolist() == [5.7**0.6, 5.7**0.6]  # the maximum is not forgotten
    assert replay.priorities[0] == pytest.approx((0.1 + epsilon) ** 0.6)


def test_an_overwritten_slot_is_neither_sampled_nor_revived():
    replay = filled(29, 0.6, 0.4)
    batch = replay.sample(64)
    feeder = Feeder(replay, 1, 1, 0.9, 0)
    feeder.first[:] = False  # goes on with the open episode
    for _ in range(3):
        feeder.step(0.0)
    gone = np.flatnonzero(~replay.replay.valid)
    assert gone.tolist() == [2]
    replay.update_priorities(np.append(batch.index, gone), torch.from_numpy(np.ones(65)))
    assert replay.priorities[gone].tolist() == [0]
    assert not np.isin(replay.sample(1000).index, gone).any()


@settings(max_examples=60, deadline=None)
@given(
    num_envs=st.sampled_from([1, 3, 8]),
    stack_num=st.integers(1, 4),
    n_step=st.integers(1, 4),
    end_rate=st.sampled_from([0.0, 0.2, 1.0]),
    seed=st.integers(0, 2**32),
)
def test_exactly_what_uniform_replay_may_sample_has_a_priority(num_envs, stack_num, n_step, end_rate, seed):
    replay = PrioritizedReplay(build(num_envs, stack_num + n_step + 6, stack_num, n_step))
    feeder = Feeder(replay, stack_num, n_step, 0.9, seed)
    for step in range(40):
        feeder.step(end_rate)
        if step == 20:
            feeder.end_episodes()
        assert ((replay.priorities > 0) == replay.replay.valid).all()
        if replay.size:
            batch = replay.sample(8)
            assert replay.replay.valid[batch.index].all()
            replay.update_priorities(batch.index, torch.from_numpy(feeder.random.normal(size=8)))
    feeder.check()


def test_saving_keeps_priorities_and_the_generator():
    replay, other = filled(10, 0.6, 0.4, 1e-6), filled(25, 0.6, 0.9, 1e-6)
    replay.update_priorities(np.arange(5), torch.from_numpy(np.arange(5) * 3.0))
    other.load_state_dict(loaded(replay.state_dict()))
    assert (other.priorities == replay.priorities).all() and other.max_priority == 12 and other.beta == 0.4
    one, two = replay.sample(32), other.sample(32)
    assert (one.index == two.index).all() and (one.weight == two.weight).all()


@pytest.mark.parametrize("change", [
    lambda state: {"priority": state["priority"][:, :1]},
    lambda state: {"priority": state["priority"] + 1.0},
    lambda state: {"priority": np.where(state["valid"], np.nan, 0.0)},
    lambda state: {"priority": np.where(state["valid"], -1.0, 0.0)},
    lambda state: {"priority": state["priority"].astype(np.complex128)},
    lambda state: {"max_priority": float("inf")},
    lambda state: {"beta": -1.0},
])  # fmt: skip
def test_saved_priorities_that_do_not_fit_the_slots_are_refused(change):
    """Bugs: slots that hold no transition are sampled; one column of priorities is broadcast to all slots."""
    state = loaded(filled(10, 0.6, 0.4).state_dict())
    with pytest.raises(ValueError, match=r"priorit"):
        filled(10, 0.6, 0.4).load_state_dict(state | change(state))


def test_a_td_error_that_is_not_finite_is_reported():
    replay = filled(4, 0.6, 0.4)
    with pytest.raises(NonFiniteError):
        replay.update_priorities(np.arange(2), torch.from_numpy(np.array([1.0, np.nan])))


def test_atari_transitions_cost_under_7500_bytes_with_their_priorities():
    assert 7072 + PrioritizedReplay(build(1, 600_000, 4, 3))._tree.nbytes / 600_000 < 7500


def test_each_batch_is_drawn_by_the_priorities_that_the_one_before_has_left():
    """Bug: batches of a round drawn at once, as uniform replay may, from priorities that are old by then."""
    replay = filled(4, 1.0, 1.0)
    drawn = []
    for number, batch in enumerate(replay.batches(3, 8)):
        drawn.append(set(batch.index.tolist()))
        replay.update_priorities(np.arange(4), torch.from_numpy(np.eye(4)[number] * 1e9 + 1e-9))
    assert drawn == [{0, 1, 2, 3}, {0}, {1}]
