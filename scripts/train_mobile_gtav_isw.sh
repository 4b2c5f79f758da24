#!/usr/bin/env bash
# ISW; MobileNetV2; trained on GTAV. Published on 4 GPUs, 4 images each.
source "$(dirname "$0")/published.sh"
train_on_gtav 16 DeepMobileNetV3PlusD --exp mobile_gtav_isw \
  --wt_layer 0 0 2 2 2 0 0 --wt_reg_weight 1.0 --relax_denom 0.0 --clusters 20 --cov_stat_epoch 5 --trials 10 "$@"
