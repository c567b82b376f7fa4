"""An environment that draws nothing."""

import gymnasium


class Silent(gymnasium.Env):
    """One state, one action."""

    observation_space = gymnasium.spaces.Discrete(1)
    action_space = gymnasium.spaces.Discrete(1)

    def reset(self, *, seed=None, options=None):
        """Begin."""
        return 0, {}

    def step(self, action):
        """End."""
        return 0, 0.0, True, False, {}


gymnasium.register("Silent-v0", Silent)
