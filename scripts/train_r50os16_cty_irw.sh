#!/usr/bin/env bash
# IRW; ResNet-50, output stride 16; trained on Cityscapes. Published on 2 GPUs, 4 images each.
source "$(dirname "$0")/published.sh"
train_on_cityscapes 8 DeepR50V3PlusD --exp r50os16_city_irw \
  --wt_layer 0 0 1 1 1 0 0 --wt_reg_weight 0.6 --relax_denom 32.0 --clusters 0 --cov_stat_epoch 0 --trials 0 "$@"
