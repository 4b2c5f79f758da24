#!/usr/bin/env bash
# ISW; ResNet-101, output stride 8; trained on GTAV. Published on 4 GPUs, 4 images each.
# Published mIoU (mean of 3): Cityscapes, BDD100K, Mapillary, SYNTHIA = 37.09 35.37 38.50 30.49.
source "$(dirname "$0")/published.sh"
needs_weights "$@"
train_on_gtav 16 DeepR101V3PlusD_OS8 --exp r101os8_gtav_isw \
  --wt_layer 2 2 0 2 2 0 0 --wt_reg_weight 0.6 --relax_denom 0.0 --clusters 3 --cov_stat_epoch 5 --trials 10 "$@"
