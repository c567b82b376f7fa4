#!/usr/bin/env bash
# What a machine with a GPU reaches, in under ten minutes: steps/s of one setting against another, blocks in turn, for the
# settings that are measured on processors and for rollouts that fill a GPU. Results go to benchmarks/results/gpu_*.json.
# The aims on one H100 with 16 cores: PPO Pong 25,000 steps/s, DQN Pong 10,000.
#   bash benchmarks/gpu.sh            the first GPU
#   bash benchmarks/gpu.sh cpu 2      whether the script itself works: no GPU, two pairs of blocks, what needs none
set -euo pipefail
cd "$(dirname "$0")/.."
device=${1:-cuda}
pairs=${2:-4}

measure() { # name, work, the key of one side, that of the other, further keys for both
  local name=$1 work=$2 ours=$3 peers=$4
  shift 4
  timeout 65 python benchmarks/paired.py "$work" --source . --pairs "$pairs" --name "gpu_$name" \
    --keys "device=$device" "$ours" "$@" --peer-keys "device=$device" "$peers" "$@" | tail -n 40 ||
    echo "gpu_$name: no result" >&2
}

[ "$device" = cpu ] || nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
wide=(algo.num_envs=64 algo.batch_size=2048)
measure ppo_pong_graphs ppo_pong cuda_graphs=auto cuda_graphs=false
measure dqn_pong_graphs dqn_pong cuda_graphs=auto cuda_graphs=false
measure dqn_pong_replay dqn_pong algo.replay_device=device algo.replay_device=cpu
measure ppo_pong_64_graphs ppo_pong cuda_graphs=auto cuda_graphs=false "${wide[@]}"
measure dqn_pong_8_bf16 dqn_pong precision=bf16 precision=fp32 algo.num_envs=8 algo.train_every_steps=8
measure ppo_pong_bf16 ppo_pong precision=bf16 precision=fp32
measure ppo_pong_compile ppo_pong compile=true compile=false
measure a2c_pong_graphs a2c_pong cuda_graphs=auto cuda_graphs=false
[ "$device" = cpu ] || measure ppo_pong_64_tf32 ppo_pong precision=tf32 precision=fp32 "${wide[@]}"
