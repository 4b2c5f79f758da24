# Sourced by other scripts. make_environment FOLDER REQUIREMENTS...: create a virtual environment in FOLDER,
# install into it and activate it.
make_environment() {
  local folder=$1
  shift
  local interpreter=${PYTHON:-python3}
  if ! "$interpreter" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
    echo "error: Python >= 3.10 is needed and $interpreter is not; name another: PYTHON=python3.12 bash $0" >&2
    exit 1
  fi
  if ! { [ -f "$folder/bin/activate" ] && "$folder/bin/python" -c 'import pip'; } > /dev/null 2>&1; then
    echo "== making the virtual environment $folder"
    rm -rf "$folder"/{bin,lib,lib64,include,pyvenv.cfg} "$folder"/installed-* # of one that was not finished
    "$interpreter" -m venv "$folder"
  fi
  source "$folder/bin/activate"
  local list stamp
  for list in "$@"; do
    stamp=$folder/installed-${list//\//-}
    if ! cmp -s "$list" "$stamp"; then
      echo "== installing $list (some minutes the first time)"
      python -m pip install --disable-pip-version-check --quiet -r "$list"
      cp "$list" "$stamp"
    fi
  done
}
