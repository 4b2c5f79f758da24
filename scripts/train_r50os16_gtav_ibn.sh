#!/usr/bin/env bash
# IBN; ResNet-50, output stride 16; trained on GTAV. Published on 4 GPUs, 4 images each.
source "$(dirname "$0")/published.sh"
train_on_gtav 16 DeepR50V3PlusD --exp r50os16_gtav_ibn \
  --wt_layer 0 0 4 4 4 0 0 --wt_reg_weight 0.0 --relax_denom 0.0 --cov_stat_epoch 0 "$@"
