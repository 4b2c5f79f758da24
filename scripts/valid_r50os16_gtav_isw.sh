#!/usr/bin/env bash
# Score ISW, ResNet-50, output stride 16, trained on GTAV, on the other domains; whole images. bash scripts/valid_r50os16_gtav_isw.sh CHECKPOINT
source "$(dirname "$0")/published.sh"
needs 1 "CHECKPOINT [FLAGS]"
launch eval.py --val_dataset bdd100k cityscapes synthia mapillary --arch DeepR50V3PlusD --wt_layer 0 0 2 2 2 0 0 \
  --inference_mode whole --exp r50os16_gtav_isw --snapshot "$1" "${@:2}"
