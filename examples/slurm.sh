#!/bin/bash
# Train beyond the time limit of a Slurm job. Two minutes before the limit Slurm sends SIGUSR1. The trainer then saves
# and exits with code 143, and this script puts the job back into the queue. The next start of the job resumes the run.
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

run="" # a run that was killed before its first checkpoint begins again
[ -e "$root/latest/checkpoints/last" ] && run="$root/latest"
if [ -n "$run" ]; then
    rltrain resume "$run" &
else
    rltrain "$@" run_dir="$root" &
fi
trainer=$!
# B: in --signal sends the signal to this shell only, so a trap forwards it to the trainer.
trap 'kill -USR1 "$trainer"' USR1
trap 'kill -TERM "$trainer"' TERM
wait "$trainer"
code=$?
while kill -0 "$trainer" 2>/dev/null; do # the signal interrupts the first `wait` while the trainer still saves
    wait "$trainer"
    code=$?
done
if [ "$code" -eq 143 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
