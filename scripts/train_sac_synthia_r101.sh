#!/usr/bin/env bash
# DA-SAC; DeepLabV2 on ResNet-101; SYNTHIA to Cityscapes. Published mIoU (16 classes): 52.6.
source "$(dirname "$0")/sac.sh"
sac synthia DeepR101V2 "$@"
