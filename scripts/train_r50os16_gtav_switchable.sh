#!/usr/bin/env bash
# Switchable whitening; ResNet-50, output stride 16; trained on GTAV. Published on 4 GPUs, 4 images each.
source "$(dirname "$0")/published.sh"
train_on_gtav 16 DeepR50V3PlusD --exp r50os16_gtav_switchable \
  --wt_layer 0 0 5 5 5 0 0 "$@"
