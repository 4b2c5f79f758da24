#!/usr/bin/env bash
#SBATCH --job-name=train --gpus-per-node=4 --cpus-per-task=32 --time=12:00:00
#SBATCH --requeue --open-mode=append --signal=B:USR1@180
# One experiment on one machine under Slurm, requeued until it is finished. Other Slurm options go before the script:
#   sbatch --time=4:00:00 scripts/slurm_train.sh scripts/train_r50os16_gtav_isw.sh --data_root DIR
# 180 s before the time is over, SIGTERM stops the training, which saves, and the job is queued again.
set -uo pipefail
[ $# -ge 1 ] || { echo "usage: sbatch $0 SCRIPT [FLAGS]" >&2; exit 2; }

requeue=
trap 'requeue=1; [ -z "${!:-}" ] || kill -TERM "$!"' USR1 # $! is the training
trap '[ -z "${!:-}" ] || kill -TERM "$!"' TERM
bash "$@" --resume auto &
training=$!
wait "$training"
code=$?
while kill -0 "$training" 2> /dev/null; do # a signal ended the wait before the training has ended
  wait "$training"
  code=$?
done
if [ -n "$requeue" ] && [ "$code" -ne 0 ] || [ "$code" -eq 75 ]; then
  exec scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
