#!/usr/bin/env bash
# ABN baseline of DA-SAC; FCN-8s on VGG-16; SYNTHIA to Cityscapes. Published mIoU (16 classes): 31.6.
source "$(dirname "$0")/sac.sh"
abn synthia VGG16FCN8s "$@"
