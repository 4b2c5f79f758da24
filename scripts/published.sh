# Sourced by the published experiments, which show only what sets them apart.
#   NPROC=2 bash scripts/X.sh      processes on this machine; default: its GPUs, or 1. The batch stays the published one.
#   FAST=1 bash scripts/X.sh       --fast: mixed precision and what else is safe and faster on this machine
#   PRINT_COMMAND=1 bash scripts/X.sh    print the command, which can be pasted into a shell, and stop
# Flags after the script's name are appended: bash scripts/X.sh --data_root /data --test_mode
# The scripts run in any folder. Relative paths are relative to that folder.
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[ "$repository" -ef . ] && here= || here=$repository/ # what comes before the repository's files
python=python
[ -x "${here}.venv/bin/python" ] && python=${here}.venv/bin/python

gpus() { # how many this machine has, at least 1; PyTorch would take seconds to say so
  local count=0
  if [ -n "${CUDA_VISIBLE_DEVICES+set}" ]; then
    count=$(tr ',' '\n' <<< "$CUDA_VISIBLE_DEVICES" | grep -c '[^ ]' || true)
  elif command -v nvidia-smi > /dev/null; then
    count=$(nvidia-smi -L 2> /dev/null | grep -c '^GPU' || true)
  fi
  echo $((count > 0 ? count : 1))
}

launch() { # PROGRAM FLAGS...
  local program=$here$1
  shift
  [ -n "${FAST:-}" ] && [ "$program" = "${here}train.py" ] && set -- --fast "$@"
  if [ -n "${PRINT_COMMAND:-}" ]; then
    set -- "$python" -m torch.distributed.run --standalone --nproc_per_node="${NPROC:-$(gpus)}" "$program" "$@"
    printf '%q ' "$@" | sed 's/ $//'
    echo
    exit
  fi
  local processes=${NPROC:-$("$python" -c 'import torch; print(max(1, torch.cuda.device_count()))')}
  exec "$python" -m torch.distributed.run --standalone --nproc_per_node="$processes" "$program" "$@"
}

train() { # GLOBAL_BATCH FLAGS...: what all trainings share
  local batch=$1
  shift
  launch train.py --global_batch_size "$batch" --lr_schedule poly --lr 0.01 --poly_exp 0.9 --max_cu_epoch 10000 \
    --class_uniform_pct 0.5 --class_uniform_tile 1024 --crop_size 768 --scale_min 0.5 --scale_max 2.0 --rrotate 0 \
    --max_iter 40000 --gblur --color_aug 0.5 --date 0101 --ckpt ./logs/ --tb_path ./logs/ "$@"
}

train_on_gtav() { # GLOBAL_BATCH ARCH FLAGS...
  train "$1" --arch "$2" --dataset gtav --covstat_val_dataset gtav \
    --val_dataset bdd100k cityscapes synthia mapillary "${@:3}"
}

train_on_cityscapes() { # GLOBAL_BATCH ARCH FLAGS...
  train "$1" --arch "$2" --dataset cityscapes --covstat_val_dataset cityscapes \
    --val_dataset bdd100k gtav synthia mapillary "${@:3}"
}

needs_weights() { # FLAGS...: fail unless a flag names the weights that the ResNet-101 with a deep stem starts from
  [[ -n "${PRINT_COMMAND:-}" || " $*" =~ " "--(pretrained|snapshot|resume)[=\ ] ]] || {
    echo "error: torchvision has no ImageNet weights of a ResNet-101 with three 3x3 stem convolutions; give" \
      "--pretrained FILE, the published file, which network/README.md describes, or --pretrained none" >&2
    exit 2
  }
}

needs() { # COUNT USAGE: fail with the usage unless that many arguments were given
  [[ $count -ge $1 && $first != -* ]] || { echo "usage: bash $0 $2" >&2; exit 2; }
}
count=$# first=${1:-}
