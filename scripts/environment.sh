# Sourced by the other scripts: makes .venv with everything installed, or finds it as it is. Ends with a clear sentence
# when Python or the network is missing. PYTHON=... chooses the interpreter.
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

fail() {
  echo "error: $*" >&2
  exit 1
}

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10 python}; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; then
      command -v "$candidate"
      return
    fi
  done
  return 1
}

make_environment() {
  local python stamp wanted
  stamp=.venv/.installed
  wanted=$(cksum <pyproject.toml)
  if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    return
  fi
  python=$(find_python) || fail "no Python 3.10 or newer with the venv module was found (tried ${PYTHON:-python3 and its versions});" \
    "install one (Debian, Ubuntu: apt install python3 python3-venv) or set PYTHON=/path/to/python3"
  [ -x .venv/bin/python ] || "$python" -m venv .venv || fail "$python could not make .venv; is the disk full or the folder read-only?"
  echo "installing into .venv (several gigabytes with torch; minutes the first time) ..."
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' >.venv/install.log 2>&1 || {
    tail -n 5 .venv/install.log >&2
    fail "the installation failed (whole log: .venv/install.log); it needs the network and about 8 GB of disk: mend that and run this again"
  }
  echo "$wanted" >"$stamp"
}

make_environment
