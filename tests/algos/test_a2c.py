"""A2C: its update against one worked by hand, its value against that of a loop."""

import dataclasses

import numpy as np
import pytest
import torch

from rltrain.buffers.rollout import Rollout


def make_rollout(num_steps=2):
    return Rollout(num_steps, 1, (1,), torch.float32, (), torch.int64)


def make_config(config, num_steps=2, **fields):
    """A run of one rollout in one environment."""
    return config("a2c", env="loop:Loop-v0", num_envs=1, num_steps=num_steps, steps=num_steps, **fields)


def without_sight(agent):
    """Let the network see nothing: policy 1/4, 3/4 and value 1 everywhere, so its biases alone have gradients."""
    with torch.no_grad():
        for parameter in agent.network.parameters():
            parameter.zero_()
        agent.network.policy.bias.copy_(torch.tensor([1.0, 3.0]).log())
        agent.network.value.bias.fill_(1.0)


def test_the_gradient_is_the_one_worked_by_hand(config, learned_from):
    run_config = make_config(config, gamma=0.5, value_weight=0.5, entropy_weight=0.1, max_grad_norm=1e9)
    rollout = make_rollout()
    rollout.action[:] = torch.tensor([[0], [1]])
    rollout.reward[:] = torch.tensor([[1.0], [2.0]])
    rollout.discount[:], rollout.trace[:], rollout.value[:], rollout.next_value[:] = 0.5, 1.0, 1.0, 1.0
    agent = learned_from(run_config, rollout, without_sight)
    metrics = agent.learner.metrics()
    # R_1 = 2 + .5 * 1 = 2.5, R_0 = 1 + .5 * 2.5 = 2.25; A = 1.25, 1.5.
    # By the logit of action 0 of -log pi * A: -(1 - 1/4) * 1.25 and -(0 - 1/4) * 1.5; mean -.28125.
    # The entropy's: -pi_0 (log pi_0 + H), pi_0 = 1/4, H = .5623351, which is .2059898; times -.1.
    # By the value: .5 * mean(1 - R) = .5 * -1.375.
    gradients = agent.learner.trained.gradients()
    assert gradients.pop("policy.bias").tolist() == pytest.approx([-0.3018490, 0.3018490], rel=1e-5)
    assert gradients.pop("value.bias").tolist() == pytest.approx([-0.6875])
    assert len(gradients) == 6 and all(gradient.abs().max() == 0 for gradient in gradients.values())
    # -log(1/4) * 1.25 and -log(3/4) * 1.5; half of 1.25^2 and of 1.5^2.
    assert metrics["train/policy_gradient_loss"].item() == pytest.approx((1.7328680 + 0.4315231) / 2)
    assert metrics["train/value_loss"].item() == pytest.approx((0.78125 + 1.125) / 2)
    assert metrics["train/entropy_loss"].item() == pytest.approx(-0.5623351)


@pytest.mark.parametrize("num_envs", [2, 4])
def test_one_update_a_rollout_and_a_step_size_that_falls_with_agent_steps(num_envs, config, watched):
    """Bugs: a rollout used again, which A2C's gradient does not allow; steps of one environment counted."""
    fields = {"num_steps": 64 // num_envs, "learning_rate": 1e-3, "learning_rate_end": 0.0}
    seen, _ = watched(
        config("a2c", num_envs=num_envs, steps=256, **fields),
        lambda run, agent, parts: (run.step - 64, agent.learner.num_updates, agent.learner.learning_rate),
    )
    assert np.array(seen) == pytest.approx(np.array([(64 * k, k + 1, 1e-3 * (1 - k / 4)) for k in range(4)]))


@pytest.mark.parametrize("normalize", [False, True])
def test_gradients_of_small_parts_add_up_to_those_of_the_rollout(normalize, config, learned_from):
    rng = np.random.default_rng(0)
    rollout = make_rollout(50)
    for field in (rollout.obs, rollout.reward, rollout.value, rollout.next_value):
        field.copy_(torch.from_numpy(rng.standard_normal(field.shape).astype(np.float32)))
    rollout.action.copy_(torch.from_numpy(rng.integers(2, size=(50, 1))))
    rollout.discount[:], rollout.trace[:] = 0.9, 1.0
    gradients = []
    for micro_batch_size in (None, 7):
        run_config = make_config(config, 50, normalize_advantage=normalize)
        agent = learned_from(dataclasses.replace(run_config, micro_batch_size=micro_batch_size), rollout)
        metrics = agent.learner.metrics()
        parts = [gradient.flatten() for gradient in agent.learner.trained.gradients().values()]
        gradients.append(torch.cat([metrics["train/loss"][None], *parts]))
    assert gradients[0].abs().max() > 0.01
    assert torch.allclose(*gradients, atol=1e-6)


@pytest.mark.parametrize(("terminates", "low", "high"), [(False, 45, 51), (True, 1, 7.47)])
def test_a_time_limit_is_bootstrapped_through_and_a_termination_is_not(terminates, low, high, config, watched):
    run_config = config(
        "a2c", env="loop:Loop-v0", kwargs={"terminates": terminates}, num_envs=4, num_steps=5, gamma=0.98,
        optimizer="adam", learning_rate=2e-2, max_grad_norm=1e3, steps=8000,
    )  # fmt: skip
    _, agent = watched(run_config)
    assert low <= agent.actor.value(np.ones((1, 1), np.float32)).item() <= high
