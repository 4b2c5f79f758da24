# Sourced by the adaptation experiments (DA-SAC, arXiv 2105.00097), which show only what sets them apart.
#   bash scripts/train_sac_gta_r101_abn.sh --data_root DIR                   first phase: batch norm adapts
#   bash scripts/train_sac_gta_r101.sh CHECKPOINT --data_root DIR            second: self-training from its weights
# Source batch, crop and scales and the number of iterations are ours: the published ones are not known to us.
# The 8 target views per step are divided among 1, 2, 4 or 8 processes (NPROC, default: the GPUs).
source "$(dirname "${BASH_SOURCE[0]}")/published.sh"

adapt() { # SOURCE ARCH PHASE FLAGS...: what all adaptations to Cityscapes share
  local source=$1 arch=$2 phase=$3
  shift 3
  launch train.py --dataset "$source" --adapt_dataset cityscapes --val_dataset cityscapes --covstat_val_dataset "$source" \
    --arch "$arch" --sac_phase "$phase" --global_batch_size 8 --crop_size 720 --scale_min 0.5 --scale_max 1.0 \
    --sac_views 4 --sac_images 2 --sac_crop 512 1024 --sac_weight 5.0 --lr 0.00025 --lr_bias 2 --lr_schedule constant \
    --momentum 0.9 --weight_decay 0.0005 --max_iter 40000 --date sac --exp "sac_${source}_${arch}_$phase" "$@"
}

abn() { # SOURCE ARCH FLAGS...
  adapt "$1" "$2" abn "${@:3}"
}

sac() { # SOURCE ARCH CHECKPOINT FLAGS...
  [[ $# -ge 3 && $3 != -* ]] || { echo "usage: bash $0 CHECKPOINT [FLAGS]: a last_*.pth of its _abn script" >&2; exit 2; }
  adapt "$1" "$2" sac --snapshot "$3" "${@:4}"
}
