#!/usr/bin/env bash
# ABN baseline of DA-SAC; DeepLabV2 on ResNet-101; GTAV to Cityscapes. Published mIoU: 40.8.
source "$(dirname "$0")/sac.sh"
abn gtav DeepR101V2 "$@"
