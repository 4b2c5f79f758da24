#!/usr/bin/env bash
# Switchable whitening; ResNet-50, output stride 16; trained on Cityscapes. Published on 2 GPUs, 4 images each.
source "$(dirname "$0")/published.sh"
train_on_cityscapes 8 DeepR50V3PlusD --exp r50os16_city_switchable \
  --wt_layer 0 0 5 5 5 0 0 "$@"
