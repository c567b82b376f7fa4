#!/bin/bash
# A training that outlives its time limit: two minutes before it, Slurm sends SIGUSR1 to the trainer, which saves and ends
# with code 143; the job then puts itself back into the queue and resumes.
#
#   sbatch examples/slurm.sh algo=ppo env=pong total_steps=1e7
#SBATCH --job-name=rltrain
#SBATCH --cpus-per-task=16
#SBATCH --gres=gpu:1
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -u
root="runs/slurm/$SLURM_JOB_ID"

run=""
[ -e "$root/latest" ] && run="$root/latest"
if [ -n "$run" ]; then
    rltrain resume "$run" &
else
    rltrain "$@" run_dir="$root" &
fi
trainer=$!
# Slurm signals this shell (B: above); bash answers once `wait` returns, so the signal is passed on from a trap.
trap 'kill -USR1 "$trainer"' USR1
trap 'kill -TERM "$trainer"' TERM
wait "$trainer"
code=$?
while kill -0 "$trainer" 2>/dev/null; do # the first `wait` ended with the signal; the trainer is still saving
    wait "$trainer"
    code=$?
done
if [ "$code" -eq 143 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
