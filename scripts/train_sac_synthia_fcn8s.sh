#!/usr/bin/env bash
# DA-SAC; FCN-8s on VGG-16; SYNTHIA to Cityscapes. Published mIoU (16 classes): 46.8.
source "$(dirname "$0")/sac.sh"
sac synthia VGG16FCN8s "$@"
