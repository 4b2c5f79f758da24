#!/usr/bin/env bash
# IBN; ShuffleNetV2; trained on GTAV. Published on 2 GPUs, 8 images each.
source "$(dirname "$0")/published.sh"
train_on_gtav 16 DeepShuffleNetV3PlusD --exp shuffle_gtav_ibn \
  --wt_layer 0 0 4 4 4 0 0 --wt_reg_weight 0.0 --relax_denom 0.0 --clusters 0 --cov_stat_epoch 0 --trials 0 "$@"
