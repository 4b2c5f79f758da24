#!/usr/bin/env bash
# Baseline, no whitening; ResNet-101, output stride 8; trained on Cityscapes. Published on 2 GPUs, 4 images each.
source "$(dirname "$0")/published.sh"
needs_weights "$@"
train_on_cityscapes 8 DeepR101V3PlusD_OS8 --exp r101os8_city_base \
  --wt_layer 0 0 0 0 0 0 0 --wt_reg_weight 0.0 --relax_denom 0.0 --cov_stat_epoch 0 "$@"
