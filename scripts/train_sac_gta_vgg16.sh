#!/usr/bin/env bash
# DA-SAC; DeepLabV2 on VGG-16; GTAV to Cityscapes. Published mIoU: 49.8.
source "$(dirname "$0")/sac.sh"
sac gtav DeepVGG16V2 "$@"
