#!/usr/bin/env bash
# ISW; ResNet-101, output stride 8; trained on Cityscapes. Published on 2 GPUs, 4 images each.
source "$(dirname "$0")/published.sh"
needs_weights "$@"
train_on_cityscapes 8 DeepR101V3PlusD_OS8 --exp r101os8_city_isw \
  --wt_layer 0 0 2 2 2 0 0 --wt_reg_weight 0.6 --relax_denom 0.0 --clusters 2 --cov_stat_epoch 5 --trials 10 "$@"
