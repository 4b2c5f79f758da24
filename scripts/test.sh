#!/usr/bin/env bash
# Lint, the duplicate-code gate, the type check and the tests, which run in up to 4 processes.
# Arguments go to pytest: bash scripts/test.sh -m slow, or -n 0 --pdb for one process
# bash scripts/test.sh --lower-bounds: the tests only, with the oldest packages that requirements.txt allows;
# needs Python 3.10 to 3.12.
set -euo pipefail
caller=$PWD
cd "$(dirname "$0")/.."
arguments=()
for argument in "$@"; do # relative paths are relative to the caller's folder
  if [[ ! $caller -ef . && $argument != [-/]* && -e $caller/${argument%%::*} ]]; then
    argument=$caller/$argument
  fi
  arguments+=("$argument")
done
set -- ${arguments[@]+"${arguments[@]}"}
source scripts/environment.sh

if [ "${1:-}" = --lower-bounds ]; then
  shift
  mkdir -p .venv-lower
  sed 's/>=/==/' requirements.txt > .venv-lower/lower-bounds.txt
  make_environment .venv-lower .venv-lower/lower-bounds.txt tests/requirements.txt
else
  make_environment .venv requirements.txt tests/requirements.txt
  echo "== ruff"
  ruff check .
  ruff format --check .
  echo "== duplicate code"
  pylint --rcfile .pylintrc $(git ls-files '*.py')
  echo "== types"
  mypy --config-file .mypy.ini
fi
echo "== pytest"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # the workers take all cores; more threads wait for each other
# One worker more than cores, because tests wait for the programs they start.
workers=$(python -c "import os; print(min(len(os.sched_getaffinity(0)) + 1, 4))")
exec python -m pytest --numprocesses "$workers" --dist worksteal "$@"
