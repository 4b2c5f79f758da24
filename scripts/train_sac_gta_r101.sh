#!/usr/bin/env bash
# DA-SAC; DeepLabV2 on ResNet-101; GTAV to Cityscapes. Published mIoU: 53.8.
source "$(dirname "$0")/sac.sh"
sac gtav DeepR101V2 "$@"
