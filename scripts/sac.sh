# Sourced by the adaptation experiments (DA-SAC, arXiv 2105.00097), which show only what sets them apart.
#   bash scripts/train_sac_gta_r101_abn.sh --data_root DIR                      first phase: batch norm adapts
#   bash scripts/train_sac_gta_r101.sh CHECKPOINT [SHARES] --data_root DIR      second: self-training from its weights
# SHARES is a file of scripts.class_weights, with which images of rare classes are drawn more often, as published.
# The source batch (8, 12 or 16) must be divisible by the number of processes (NPROC, default: the GPUs).
source "$(dirname "${BASH_SOURCE[0]}")/published.sh"

adapt() { # SOURCE ARCH PHASE BATCH EPOCHS FLAGS...: what all adaptations to Cityscapes share
  local source=$1 arch=$2 phase=$3 batch=$4 epochs=$5 lr=0.00025
  shift 5
  local images=9400 more=()
  if [ "$source" = gtav ]; then
    images=9000 more=(--resize_first 1052 1914)
  fi
  [ "$arch" = VGG16FCN8s ] && lr=0.0005
  launch train.py --dataset "$source" --source_split da_sac --adapt_dataset cityscapes --val_dataset cityscapes \
    --covstat_val_dataset "$source" --arch "$arch" --sac_phase "$phase" --global_batch_size "$batch" \
    --max_epoch "$epochs" --max_iter $((epochs * (images / batch))) --augmentation da_sac \
    --source_colors gtav cityscapes --loss_over all --lr $lr --lr_bias 2 --lr_head 10 --lr_schedule constant \
    --momentum 0.9 --weight_decay 0.0005 --weight_decay_bias 0 --date sac --exp "sac_${source}_${arch}_$phase" \
    "${more[@]}" "$@"
}

abn() { # SOURCE ARCH FLAGS...
  local batch=16 images=2 jitter=0.4
  if [ "$2" = DeepR101V2 ]; then
    batch=12 images=8 jitter=0.5
  fi
  adapt "$1" "$2" abn $batch 101 --crop_shape 640 640 --scale_min 0.5 --scale_max 2.0 --color_aug 1 \
    --jitter $jitter $jitter --sac_images $images "${@:3}"
}

sac() { # SOURCE ARCH CHECKPOINT [SHARES] FLAGS...
  [[ $# -ge 3 && $3 != -* ]] || { echo "usage: bash $0 CHECKPOINT [SHARES] [FLAGS]: a last_*.pth of its _abn script" >&2; exit 2; }
  local source=$1 arch=$2 checkpoint=$3 weight=2.0 lower=0.1 draws=()
  shift 3
  [ "$arch" = DeepR101V2 ] && weight=5.0 lower=0.2
  if [[ $# -ge 1 && $1 != -* ]]; then
    draws=(--sac_weights "$1" --sac_uniform 0.25)
    [ "$source" = synthia ] && draws+=(--sac_uniform_classes 9,14,16)
    shift
  else
    echo "note: without SHARES target images are drawn uniformly; scripts/README.md says how to make the file" >&2
  fi
  adapt "$source" "$arch" sac 8 201 --snapshot "$checkpoint" --crop_shape 512 1024 --scale_min 0.5 --scale_max 1.0 \
    --sac_views 4 --sac_images 2 --sac_crop 512 1024 --sac_scale 1.0 1.1 --sac_zoom 0.5 1.0 --sac_blur 0.1 2.0 \
    --sac_jitter 0.4 0.1 --sac_gray 0.2 --sac_weight $weight --sac_conf_upper 0.75 --sac_conf_lower $lower \
    --sac_beta 0.001 --sac_focal_power 3 --sac_prior_momentum 0.99 --sac_teacher_momentum 0.99 \
    --sac_teacher_every 100 "${draws[@]}" "$@"
}
