#!/usr/bin/env bash
# IBN; ResNet-50, output stride 16; trained on Cityscapes. Published on 2 GPUs, 4 images each.
source "$(dirname "$0")/published.sh"
train_on_cityscapes 8 DeepR50V3PlusD --exp r50os16_city_ibn \
  --wt_layer 0 0 4 4 4 0 0 --wt_reg_weight 0.0 --relax_denom 0.0 --cov_stat_epoch 0 "$@"
