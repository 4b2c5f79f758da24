#!/usr/bin/env bash
# The study: methods of domain generalization over seeds, from nothing to a page (scripts/study/README.md).
#   bash scripts/study.sh --quick            one row on a CPU: baseline and ISW on a small toy town
#   bash scripts/study.sh [DIR] [FLAGS]      on a GPU; a repeated call does what is left
# Results in DIR/results, page in DIR/page (default: logs/study, with --quick logs/study_quick).
# Flags: python -m scripts.study run --help. Relative paths mean the caller's folder.
set -euo pipefail
caller=$PWD
cd "$(dirname "$0")/.."
[[ " $* " = *" --quick "* ]] && out=logs/study_quick || out=logs/study
if [[ ${1:---} != --* ]]; then
  out=$1
  shift
  [[ $out = /* ]] || out=$caller/$out
fi
arguments=()
for argument in "$@"; do
  [[ $argument != [-/]* && -e $caller/$argument ]] && argument=$caller/$argument
  arguments+=("$argument")
done
source scripts/environment.sh
make_environment .venv requirements.txt

status=0
python -m scripts.study run --out "$out" ${arguments[@]+"${arguments[@]}"} || status=$?
if [ "$status" -le 1 ] && compgen -G "$out/results/*.json" > /dev/null; then # of what finished
  python -m scripts.study page "$out/results" --out "$out/page" --markdown
fi
exit "$status"
