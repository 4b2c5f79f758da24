#!/usr/bin/env bash
# DA-SAC; FCN-8s on VGG-16; GTAV to Cityscapes. Published mIoU: 49.9.
source "$(dirname "$0")/sac.sh"
sac gtav VGG16FCN8s "$@"
