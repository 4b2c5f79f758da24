#!/usr/bin/env bash
# Score ISW, ResNet-50, on Cityscapes val: pooled scales. bash scripts/infer_r50os16_cty_isw_pooling.sh CHECKPOINT RESULT_FOLDER
source "$(dirname "$0")/published.sh"
needs 2 "CHECKPOINT RESULT_FOLDER [FLAGS]"
launch eval.py --dataset cityscapes --arch DeepR50V3PlusD --wt_layer 0 0 2 2 2 0 0 --inference_mode pooling \
  --scales 0.5,1.0,2.0 --split val --crop_size 1024 --cv_split 0 --dump_images --snapshot "$1" --ckpt_path "$2" "${@:3}"
