"""Make a Q-network, for DQN and PQN."""

import gymnasium

from rltrain.config.run import RunConfig
from rltrain.fast.compilation import compile_updates
from rltrain.nn import device as devices
from rltrain.nn import networks


def make_q_network(
    config: RunConfig,
    frame_space: gymnasium.Space,
    num_actions: int,
    seed: int,
    dueling: bool = False,
    layer_norm: bool = False,
    learns: bool = True,
) -> networks.QNetwork:
    """Return a Q-network on the run's device and in the run's precision. Its weights depend on the seed alone.

    learns: false for a target network, which gets no gradients and is never compiled.
    """
    device = devices.resolve_device(config.device)
    dtype = devices.resolve_precision(config.precision, device, pixels=len(frame_space.shape or ()) == 3)

    def make() -> networks.QNetwork:
        torso = networks.Torso(frame_space, config.env.stack_num, config.network, dtype, False, layer_norm)
        return networks.QNetwork(torso, num_actions, dueling)

    network: networks.QNetwork = networks.build(seed, make, device, fuse=not (config.compile and learns))
    if config.compile and learns:
        compile_updates(network)
    return network
