#!/usr/bin/env bash
# ISW; ShuffleNetV2; trained on GTAV. Published on 2 GPUs, 8 images each.
source "$(dirname "$0")/published.sh"
train_on_gtav 16 DeepShuffleNetV3PlusD --exp shuffle_gtav_isw \
  --wt_layer 0 0 2 2 2 0 0 --wt_reg_weight 0.8 --relax_denom 0.0 --clusters 2 --cov_stat_epoch 5 --trials 10 "$@"
