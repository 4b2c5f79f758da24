#!/usr/bin/env bash
# DA-SAC; DeepLabV2 on VGG-16; SYNTHIA to Cityscapes. Published mIoU (16 classes): 49.1.
source "$(dirname "$0")/sac.sh"
sac synthia DeepVGG16V2 "$@"
