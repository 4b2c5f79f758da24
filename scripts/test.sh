#!/usr/bin/env bash
# Lint, the duplicate-code gate and the tests. Arguments go to pytest: bash scripts/test.sh -m slow
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
make_environment requirements.txt tests/requirements.txt

echo "== ruff"
ruff check .
ruff format --check .
echo "== duplicate code"
pylint --rcfile .pylintrc $(git ls-files '*.py')
echo "== pytest"
exec python -m pytest "$@"
