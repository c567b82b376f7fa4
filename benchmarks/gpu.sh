#!/usr/bin/env bash
# What a machine with a GPU reaches, in under ten minutes: steps/s in bf16 against fp32, blocks in turn, for the settings
# that are measured on processors and for rollouts that fill a GPU. Results go to benchmarks/results/gpu_*.json.
#   bash benchmarks/gpu.sh            the first GPU
#   bash benchmarks/gpu.sh cpu 1      whether the script itself works: no GPU, one pair of blocks
set -euo pipefail
cd "$(dirname "$0")/.."
device=${1:-cuda}
pairs=${2:-4}

measure() { # name, work, further keys for both sides
  local name=$1 work=$2
  shift 2
  timeout 150 python benchmarks/paired.py "$work" --source . --pairs "$pairs" --name "gpu_$name" \
    --keys "device=$device" precision=bf16 "$@" --peer-keys "device=$device" precision=fp32 "$@" | tail -n 40
}

[ "$device" = cpu ] || nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
measure ppo_pong ppo_pong
measure dqn_pong dqn_pong
measure a2c_pong a2c_pong
measure ppo_pong_64 ppo_pong algo.num_envs=64 algo.batch_size=2048
