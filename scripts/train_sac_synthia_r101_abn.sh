#!/usr/bin/env bash
# ABN baseline of DA-SAC; DeepLabV2 on ResNet-101; SYNTHIA to Cityscapes. Published mIoU (16 classes): 36.3.
source "$(dirname "$0")/sac.sh"
abn synthia DeepR101V2 "$@"
