#!/usr/bin/env bash
# ABN baseline of DA-SAC; DeepLabV2 on VGG-16; GTAV to Cityscapes. Published mIoU: 37.1.
source "$(dirname "$0")/sac.sh"
abn gtav DeepVGG16V2 "$@"
