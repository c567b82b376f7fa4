"""PQN: what a rollout holds at an episode's end, what is learned from it, what is counted in which unit."""

import dataclasses

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rltrain.algos.pqn import PQN
from rltrain.buffers.rollout import ReturnBatch
from rltrain.nn.trained import Trained

VECTOR, TWO = spaces.Box(-1, 1, (4,), np.float32), spaces.Discrete(2)
QUICK = {"num_steps": 16, "batch_size": 32, "num_epochs": 2}


@pytest.fixture
def played(collected):
    """One rollout of 20 steps of the loop in 2 environments, with its agent."""
    return lambda **kwargs: collected(PQN, "pqn", **kwargs)


@pytest.mark.parametrize("terminates", [False, True])
def test_the_two_masks_and_the_best_value_of_the_true_successor(terminates, played):
    rollout, agent = played(counts=True, terminates=terminates)
    ends = torch.zeros(20, 2)
    ends[[7, 15]] = 1
    assert torch.equal(rollout.trace, 1 - ends)
    assert torch.allclose(rollout.discount, 0.98 * (1 - ends if terminates else torch.ones(20, 2)))
    successor = torch.tensor([[t % 8 + 1.0] for t in range(20)])  # 8 at an end, which the policy never sees
    with torch.no_grad():
        q = agent.network(successor)
        of_reset = agent.network(torch.zeros(1, 1)).amax()
    assert abs(q[7].amax() - of_reset) > 1e-3, "the control: the two can be told apart"
    assert not torch.allclose(q.amax(-1), q.amin(-1), atol=1e-3), "the control: actions differ"
    counted = rollout.discount[:, 0] > 0
    assert torch.allclose(rollout.next_value[counted, 0], q.amax(-1)[counted], atol=1e-6)


@pytest.fixture
def table(config):
    """An agent whose network is a table of two states and two actions, and its update in those states with actions
    1 and 0."""

    def call(micro_batch_size=None):
        run_config = dataclasses.replace(config("pqn", num_envs=1, num_steps=2, batch_size=2), micro_batch_size=None)
        run_config = dataclasses.replace(run_config, micro_batch_size=micro_batch_size)
        agent = PQN(run_config, VECTOR, TWO, 0)
        agent.network = torch.nn.Embedding.from_pretrained(torch.tensor([[1.0, 2.0], [4.0, 8.0]]), freeze=False)
        agent.learner.trained = Trained(agent.network)
        agent.learner.optimizer = torch.optim.SGD(agent.network.parameters(), lr=1.0)

        def update(returns):
            batch = ReturnBatch(torch.tensor([0, 1]), torch.tensor([1, 0]), torch.tensor(returns))
            agent.learner.step(agent.loss, batch)
            return agent.learner.metrics()

        return agent, update

    return call


@pytest.mark.parametrize("micro_batch_size", [None, 1])
def test_an_update_moves_the_values_of_the_actions_taken_towards_their_returns(micro_batch_size, table):
    agent, update = table(micro_batch_size)
    metrics = update([3.0, 2.0])
    assert metrics["train/loss"].item() == pytest.approx((0.5 * 1 + 0.5 * 4) / 2)  # errors 3 - 2 and 2 - 4
    assert metrics["train/td_error"].item() == pytest.approx(1.5)
    assert agent.network.weight.tolist() == [[1.0, 2.5], [3.0, 8.0]]  # half of each error: a mean over two


def test_gradients_are_scaled_down_to_their_largest_norm(table):
    agent, update = table()
    metrics = update([2.0, 104.0])
    assert metrics["train/grad_norm"].item() == pytest.approx(50)
    assert agent.network.weight[1, 0].item() == pytest.approx(14, abs=1e-4)


@pytest.mark.parametrize("num_envs", [2, 4])
def test_epsilon_falls_with_agent_steps_whatever_the_number_of_environments(num_envs, config, watched):
    fields = {"epsilon_start": 0.9, "epsilon_end": 0.1, "exploration_fraction": 0.5, "learning_rate_end": 0.0}
    seen, agent = watched(
        config("pqn", num_envs=num_envs, steps=640, num_steps=64 // num_envs, batch_size=32, **fields),
        lambda run, agent, parts: (run.step - 64, agent.epsilon, agent.learner.learning_rate),
    )
    epsilon = {step: value for step, value, _ in seen}
    assert epsilon[0] == 0.9
    assert epsilon[128] == pytest.approx(0.9 - 0.8 * 128 / 320)
    assert epsilon[320] == epsilon[576] == 0.1
    rate = {step: value for step, _, value in seen}
    assert rate[0] == agent.config.learning_rate
    assert rate[576] == pytest.approx(agent.config.learning_rate * 0.1)


def test_every_rollout_is_passed_over_num_epochs_times(config, watched):
    run_config = config("pqn", num_envs=4, steps=192, num_steps=16, batch_size=32, num_epochs=3)
    seen, _ = watched(run_config, lambda run, agent, parts: (run.step, agent.learner.num_updates))
    assert seen == [(64, 6), (128, 12), (192, 18)]


def test_epsilon_is_a_coin_for_each_environment(config):
    agent = PQN(config("pqn"), VECTOR, spaces.Discrete(1000), 0)
    obs = torch.zeros((4000, 4))
    agent.epsilon = 0.0
    greedy, _, value = agent.act(obs, np.random.default_rng(0))
    assert len(greedy.unique()) == 1
    assert torch.equal(value, agent.value(obs.numpy()))
    agent.epsilon = 0.25
    explored, _, still = agent.act(obs, np.random.default_rng(0))
    assert abs((explored != greedy).float().mean() - 0.25) < 0.03
    assert torch.equal(still, value), "the value of a state is that of its best action, whatever was done"


@pytest.mark.parametrize(("terminates", "low", "high"), [(False, 45, 51), (True, 1, 7.47)])
def test_a_time_limit_is_bootstrapped_through_and_a_termination_is_not(terminates, low, high, config, watched):
    fields = {"gamma": 0.98, "q_lambda": 0.9, "learning_rate": 3e-2, "max_grad_norm": 1e3, "num_epochs": 4}
    run_config = config(
        "pqn", env="loop:Loop-v0", kwargs={"terminates": terminates}, steps=6000, num_envs=2, **QUICK | fields
    )
    _, agent = watched(run_config)
    assert low <= agent.value(np.ones((1, 1), np.float32)).item() <= high


def test_layer_normalisation_can_be_left_out_to_see_what_it_does(config):
    agents = PQN(config("pqn"), VECTOR, TWO, 0), PQN(config("pqn", layer_norm=False), VECTOR, TWO, 0)
    normalised = [sum(isinstance(layer, torch.nn.LayerNorm) for layer in agent.network.modules()) for agent in agents]
    assert normalised == [1, 0]
