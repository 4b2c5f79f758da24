# Sourced by other scripts. make_environment REQUIREMENTS...: create .venv, install into it, activate it.
make_environment() {
  local interpreter=${PYTHON:-python3} wanted
  if ! "$interpreter" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
    echo "error: Python >= 3.10 is needed and $interpreter is not; name another: PYTHON=python3.12 bash $0" >&2
    exit 1
  fi
  if [ ! -x .venv/bin/python ]; then
    echo "== making the virtual environment .venv"
    "$interpreter" -m venv .venv
  fi
  source .venv/bin/activate
  wanted=$(cat "$@")
  if [ "$(cat .venv/installed 2>/dev/null)" != "$wanted" ]; then
    echo "== installing $* (some minutes the first time)"
    python -m pip install --disable-pip-version-check --quiet $(printf -- '-r %s ' "$@")
    printf '%s' "$wanted" >.venv/installed
  fi
}
