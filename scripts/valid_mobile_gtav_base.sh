#!/usr/bin/env bash
# Score baseline, no whitening, MobileNetV2, trained on GTAV, on the other domains; whole images. bash scripts/valid_mobile_gtav_base.sh CHECKPOINT
source "$(dirname "$0")/published.sh"
needs 1 "CHECKPOINT [FLAGS]"
launch eval.py --val_dataset bdd100k cityscapes synthia mapillary --arch DeepMobileNetV3PlusD --wt_layer 0 0 0 0 0 0 0 \
  --inference_mode whole --exp mobile_gtav_base --snapshot "$1" "${@:2}"
