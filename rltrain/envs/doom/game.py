"""ViZDoom's game object, set up for training. Imported only when Doom is used."""

from pathlib import Path

import vizdoom

from rltrain.config.environments import DoomConfig
from rltrain.envs.doom.setup import Setup


def make_game(config: DoomConfig, setup: Setup, supervisor: Path) -> tuple[vizdoom.DoomGame, int | None]:
    """Return a game that is not started yet, and the tic of the time limit, or None if there is no limit.

    supervisor: the script that ViZDoom starts instead of the engine.
    """
    game = vizdoom.DoomGame()
    game.load_config(str(setup.cfg))
    game.set_doom_game_path(str(setup.game_wad))
    if setup.scenario_wad is not None:
        game.set_doom_scenario_path(str(setup.scenario_wad))
    game.set_vizdoom_path(str(supervisor))
    game.set_doom_config_path(str(supervisor.with_name("engine.ini")))
    if config.doom_skill is not None:
        game.set_doom_skill(config.doom_skill)
    game.set_mode(vizdoom.Mode.PLAYER)
    game.set_window_visible(False)
    game.set_sound_enabled(False)
    game.set_screen_resolution(getattr(vizdoom.ScreenResolution, config.render_resolution))
    game.set_screen_format(vizdoom.ScreenFormat.GRAY8 if config.gray else vizdoom.ScreenFormat.RGB24)
    # These are not used, and each takes time in every step.
    for buffer in ("depth", "labels", "automap", "audio", "notifications"):
        getattr(game, f"set_{buffer}_buffer_enabled")(False)
    game.set_objects_info_enabled(False)
    game.set_sectors_info_enabled(False)
    # rltrain applies the time limit itself. After the engine's own time limit there is no picture, and an end of the
    # game in the same tic would look like the time limit.
    own_limit = (config.max_episode_steps or 0) * config.frame_skip
    timeout = min((tics for tics in (game.get_episode_timeout(), own_limit) if tics > 0), default=0)
    end_tic = game.get_episode_start_time() + timeout if timeout > 0 else None
    game.set_episode_timeout(0)
    return game, end_tic
