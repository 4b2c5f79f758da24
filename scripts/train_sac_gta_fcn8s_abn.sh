#!/usr/bin/env bash
# ABN baseline of DA-SAC; FCN-8s on VGG-16; GTAV to Cityscapes. Published mIoU: 36.7.
source "$(dirname "$0")/sac.sh"
abn gtav VGG16FCN8s "$@"
