#!/usr/bin/env bash
# From nothing to a table: a virtual environment, the toy town, a baseline and ISW trained on its GTAV-like domain,
# both scored on all five domains. 7 to 9 minutes on 2 idle CPU cores after the installation; uses the GPUs if there are any.
# Another folder for the results: bash scripts/quickstart.sh DIR
set -euo pipefail
out=${1:-}
[[ -z $out || $out = /* ]] || out=$PWD/$out # relative to the caller's folder
cd "$(dirname "$0")/.."
source scripts/environment.sh
make_environment .venv requirements.txt

out=${out:-logs/quickstart/$(date +%m_%d_%H_%M_%S)}
domains="gtav cityscapes bdd100k synthia mapillary"
gpus=$(python -c 'import torch; print(torch.cuda.device_count())')
if [ "$gpus" -gt 0 ]; then
  processes=$gpus town=data/quickstart_gpu size="--height 256 --width 512 --train 240 --val 20" arch=DeepR50V3PlusD
  train="--global_batch_size $((16 / gpus * gpus)) --crop_size 256 --max_iter 600 --lr 0.02 --num_workers 8" crop=256
else
  processes=1 town=data/quickstart_cpu size="--height 128 --width 256 --train 200 --val 8" arch=DeepR18V3PlusD
  train="--global_batch_size 8 --crop_size 96 --max_iter 230 --lr 0.03 --num_workers 1" crop=128
  OMP_NUM_THREADS=$(nproc) # of the one process: two on one machine spend their time exchanging gradients
  export OMP_NUM_THREADS
fi

echo "== 1/4 rendering the toy town into $town"
python -m datasets.toy_city --out $town $size

launch="torchrun --standalone --nproc_per_node=$processes"
last() { # NAME: its last checkpoint
  ls -t "$out"/ckpt/"$1"/gtav/*/last_*.pth | head -n 1
}
run() { # NAME FLAGS...: train, then score the last checkpoint
  local name=$1
  shift
  $launch train.py --dataset gtav --val_dataset gtav --covstat_val_dataset gtav --data_root $town \
    --arch $arch --pretrained none $train --scale_min 0.75 --scale_max 1.5 --gblur --color_aug 0.5 \
    --class_uniform_pct 0.5 --class_uniform_tile 128 --relax_denom 0 "$@" \
    --date "$name" --exp gtav --ckpt "$out/ckpt" --tb_path "$out/tb"
  echo "== scoring $name on five domains"
  $launch eval.py --dataset $domains --data_root $town --snapshot "$(last "$name")" \
    --inference_mode sliding --scales 0.5,1.0,2.0 --crop_size $crop --num_workers 1 --dump_images --overwrite \
    --ckpt_path "$out/eval" --exp_name "$name"
}
echo "== 2/4 baseline: no whitening"
run baseline --wt_layer 0 0 0 0 0 0 0
echo "== 3/4 ISW"
run isw --wt_layer 0 0 2 2 2 0 0 --wt_reg_weight 0.6 --clusters 3 --trials 3 --cov_stat_epoch 2

echo
echo "== 4/4 mean IoU (%), trained on gtav only"
python -m scripts.summarize baseline="$out/eval/baseline/results.json" isw="$out/eval/isw/results.json" --seen gtav
python -m scripts.figure strip baseline="$(last baseline)" isw="$(last isw)" --dataset mapillary --data_root $town \
  --out "$out/strip.png" > /dev/null

echo
echo "Picture:      $out/strip.png (the unseen mapillary: image, truth, baseline, ISW)"
echo "TensorBoard:  tensorboard --logdir $out/tb   (pip install tensorboard first)"
echo "Reports:      $out/eval/{baseline,isw}/index.html"
echo "Predictions:  $out/eval/{baseline,isw}/{$(echo $domains | tr ' ' ',')}_val/{rgb,compose,diff,pred}/*.png"
