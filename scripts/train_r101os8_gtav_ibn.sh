#!/usr/bin/env bash
# IBN; ResNet-101, output stride 8; trained on GTAV. Published on 4 GPUs, 4 images each.
# Published mIoU (mean of 3): Cityscapes, BDD100K, Mapillary, SYNTHIA = 33.63 33.30 36.50 31.32.
source "$(dirname "$0")/published.sh"
needs_weights "$@"
train_on_gtav 16 DeepR101V3PlusD_OS8 --exp r101os8_gtav_ibn \
  --wt_layer 4 4 0 4 4 0 0 --wt_reg_weight 0.0 --relax_denom 0.0 --cov_stat_epoch 0 "$@"
