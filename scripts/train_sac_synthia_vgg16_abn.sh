#!/usr/bin/env bash
# ABN baseline of DA-SAC; DeepLabV2 on VGG-16; SYNTHIA to Cityscapes. Published mIoU (16 classes): 34.4.
source "$(dirname "$0")/sac.sh"
abn synthia DeepVGG16V2 "$@"
