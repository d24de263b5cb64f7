# shellcheck shell=bash disable=SC2034  # some variables are read by the scripts that source this
# The virtual environment: Python, PyTorch (CPU or CUDA), what the project needs, the project itself.
# To be sourced after common.sh. The environment is always $VENV (.venv at the repository root unless
# --venv says otherwise), never the one that happens to be active.

TORCH_VERSION=2.13.0
TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu
VENV=$REPO/.venv
PY=$VENV/bin/python
STAMPS=$VENV/.referformer
PYTHON_BASE='' TORCH_KIND=''
NAME_PYTHON=', or name an interpreter that serves: PYTHON=/path/to/python3.11 before the command'

use_venv() {  # use_venv DIR
  mkdir -p "$(dirname "$1")" || fail "cannot make $1" 'name another folder with --venv'
  VENV=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
  PY=$VENV/bin/python
  STAMPS=$VENV/.referformer
}

python_fits() {  # python_fits INTERPRETER: Python 3.10-3.12?
  "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null
}

python_version() { "$1" -c 'import platform; print(platform.python_version())' 2>/dev/null; }

# The machine's own choice first, then a fitting one by name. $PYTHON overrides.
find_python() {
  local candidate seen=''
  for candidate in ${PYTHON:-python3 python python3.11 python3.12 python3.10}; do
    if python_fits "$candidate"; then
      PYTHON_BASE=$candidate
      return 0
    fi
    seen="$seen $candidate ($(python_version "$candidate" || echo absent))"
  done
  fail "no Python 3.10, 3.11 or 3.12 found; looked at:$seen" \
    'install one (Debian, Ubuntu: apt-get install python3 python3-venv python3-dev)'"$NAME_PYTHON"
}

check_venv_module() {
  "$PYTHON_BASE" -c 'import venv, ensurepip' 2>/dev/null ||
    fail "$PYTHON_BASE cannot make virtual environments: its venv or ensurepip module is missing" \
      'install it (Debian, Ubuntu: apt-get install python3-venv)'"$NAME_PYTHON"
}

free_gb() { df -Pk "$1" | awk 'NR == 2 {print int($4 / 1048576)}'; }

# Only where something is still to be installed.
check_disk() {
  local need=6 free
  if [ "$TORCH_KIND" = cuda ]; then need=14; fi
  if [ -f "$STAMPS/runtime" ]; then need=1; fi
  free=$(free_gb "$(dirname "$VENV")")
  ((free >= need)) || fail "$free GB free in $(dirname "$VENV"), the set-up needs $need GB" \
    'free some space, or put the environment on another disk with --venv DIR'
}

compiler_problem() {  # prints why C++ extensions cannot be built; nothing where they can
  local cxx=${CXX:-c++} include
  command -v "$cxx" >/dev/null 2>&1 || { echo "no C++ compiler ($cxx)"; return; }
  echo '#include <vector>' | "$cxx" -x c++ -std=c++17 -fsyntax-only - 2>/dev/null ||
    { echo "$cxx cannot compile C++17"; return; }
  include=$("$PYTHON_BASE" -c 'import sysconfig; print(sysconfig.get_path("include"))')
  [ -f "$include/Python.h" ] || echo "the headers of $PYTHON_BASE are missing ($include/Python.h)"
}

COMPILER_REMEDY='install a C++17 compiler and the Python headers (Debian, Ubuntu: apt-get install g++ python3-dev)'

choose_torch_kind() {  # sets TORCH_KIND: cuda or cpu; REFERFORMER_TORCH=cpu|cuda overrides
  if [ -n "${REFERFORMER_TORCH:-}" ]; then
    TORCH_KIND=$REFERFORMER_TORCH
  elif nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then
    TORCH_KIND=cuda
  else
    TORCH_KIND=cpu
  fi
  case $TORCH_KIND in cpu | cuda) ;; *) fail "REFERFORMER_TORCH=$TORCH_KIND" 'set it to cpu or cuda' ;; esac
}

check_machine() {
  find_python
  check_venv_module
  choose_torch_kind
  check_disk
}

describe_machine() {
  local device='no NVIDIA GPU found: CPU build of PyTorch'
  if [ "$TORCH_KIND" = cuda ]; then device='NVIDIA GPU: CUDA build of PyTorch'; fi
  if [ -n "${REFERFORMER_TORCH:-}" ]; then
    device="$TORCH_KIND build of PyTorch, as REFERFORMER_TORCH asks"
  fi
  printf 'Python %s, %s\nEnvironment: %s\nLog: %s\n\n' \
    "$(python_version "$PYTHON_BASE")" "$device" "$VENV" "$LOG"
}

# One set-up at a time, where the machine has flock.
lock_environment() {
  command -v flock >/dev/null 2>&1 || return 0
  exec 9>"$REPO/work_dirs/.setup.lock" || return 0
  flock -n 9 || { echo 'Waiting for another set-up in this repository to end'; flock 9; }
}

unlock_environment() { exec 9>&-; }

make_venv() {
  if [ -e "$VENV" ] && [ ! -f "$VENV/pyvenv.cfg" ] && [ -n "$(ls -A "$VENV")" ]; then
    PROBLEM="$VENV exists and is not a virtual environment"
    REMEDY='move it away, or name another folder with --venv DIR'
    return 1
  fi
  if [ -x "$PY" ] && "$PY" -m pip --version; then
    if ! python_fits "$PY"; then
      PROBLEM="$VENV was made with Python $(python_version "$PY"); 3.10-3.12 is needed"
      REMEDY="remove $VENV, or name another folder with --venv DIR"
      return 1
    fi
    NOTE="reusing $VENV, Python $(python_version "$PY")"
  else
    # --clear: what an interrupted run left behind.
    "$PYTHON_BASE" -m venv --clear "$VENV" || return 1
    NOTE="made $VENV, Python $(python_version "$PY")"
  fi
  export VIRTUAL_ENV=$VENV PATH="$VENV/bin:$PATH" PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1
  # Small models gain little from more threads and lose much where threads wait for a core that is
  # taken: half of the cores compute, the others read data.
  local cores
  cores=$(getconf _NPROCESSORS_ONLN)
  export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores > 1 ? cores / 2 : 1))}
  unset PYTHONHOME
}

pip_install() { "$PY" -m pip install --no-input "$@"; }

# Plain `pip install torch` takes gigabytes of CUDA on Linux. The CPU build is told by its version, X+cpu:
# from wherever the machine's own pip settings offer it, else from PyTorch's index of CPU builds.
torch_arguments() {  # torch_arguments KIND SYSTEM: what pip install gets
  if [ "$1" = cuda ] || [ "$2" = Darwin ]; then
    echo "torch==$TORCH_VERSION"
  elif "$PY" -m pip index versions torch 2>/dev/null | grep -qF "$TORCH_VERSION+cpu"; then
    echo "torch==$TORCH_VERSION+cpu"
  else
    echo "torch==$TORCH_VERSION+cpu --extra-index-url $TORCH_CPU_INDEX"
  fi
}

installed_torch() { "$PY" -c 'import torch; print(torch.__version__)' 2>/dev/null; }

install_torch() {
  local arguments version
  version=$("$PY" -c 'import importlib.metadata as m; print(m.version("torch"))' 2>/dev/null)
  if [ "$TORCH_KIND" = cpu ] && [ "$version" = "$TORCH_VERSION+cpu" ]; then
    arguments="torch==$TORCH_VERSION+cpu"
  else
    arguments=$(torch_arguments "$TORCH_KIND" "$(uname -s)")
  fi
  # With the build tools, which hold setuptools back: torch alone would bring a newer one.
  # shellcheck disable=SC2086  # the arguments are words
  pip_install -r "$REPO/requirements/build.txt" $arguments || return 1
  version=$(installed_torch) || { PROBLEM="torch was installed and cannot be imported"; return 1; }
  # Nothing installed later may exchange it.
  mkdir -p "$STAMPS" && echo "torch==$version" >"$STAMPS/constraints.txt"
}

describe_torch() {
  "$PY" -c '
import torch
cuda = torch.version.cuda
print("torch", torch.__version__, f"for CUDA {cuda}" if cuda else "for CPU")'
}

torch_step() {
  local key
  key="$TORCH_VERSION $TORCH_KIND $(key_of "$REPO/requirements/build.txt")"
  once "$STAMPS/torch" "$key" install_torch || return 1
  NOTE=$(describe_torch)
  if [ "$TORCH_KIND" = cuda ] && [[ $NOTE == *'for CPU' ]]; then
    NOTE="$NOTE, although there is a GPU: pip's own settings prefer a CPU build"
  fi
}

install_requirements() {  # install_requirements FILE...
  local file arguments=()
  for file in "$@"; do arguments+=(-r "$file"); done
  pip_install --constraint "$STAMPS/constraints.txt" "${arguments[@]}"
}

requirements_step() {  # requirements_step NAME FILE...
  local name=$1
  shift
  once "$STAMPS/$name" "$(key_of "$@") $(cat "$STAMPS/constraints.txt")" install_requirements "$@"
}

runtime_step() {
  requirements_step runtime "$REPO/requirements/runtime.txt"
}

install_project() {
  pip_install --verbose --no-build-isolation --no-deps --editable "$REPO"
}

csrc_is_compiled() { find "$REPO/referformer" -name '*.so' | grep -q .; }

project_step() {
  local key
  key="$(key_of "$REPO/setup.py" "$REPO/pyproject.toml" "$REPO/csrc" "$REPO/requirements/runtime.txt")"
  key="$key $(cat "$STAMPS/constraints.txt") $("${CXX:-c++}" --version 2>/dev/null | head -n 1) $REPO"
  # The compiled file lies in the source tree, which may have been cleaned since.
  if ! csrc_is_compiled && [ -z "$(compiler_problem)" ]; then rm -f "$STAMPS/project"; fi
  once "$STAMPS/project" "$key" install_project || return 1
  if ! csrc_is_compiled; then
    NOTE="${NOTE:-done}; csrc is not compiled: deformable attention runs in its slower PyTorch form"
  fi
}

AGAIN='then run the same command again'
NETWORK_REMEDY="check the network and the settings of pip (pip config list), $AGAIN"
TORCH_REMEDY="check that pypi.org and ${TORCH_CPU_INDEX%/whl*} can be reached (pip config list), or put a \
wheel of torch $TORCH_VERSION for this Python into a folder named in PIP_FIND_LINKS, $AGAIN"

ENVIRONMENT_STEPS=4
environment_steps() {
  lock_environment
  run_step 'Virtual environment' "remove $VENV and run the same command again" make_venv
  run_step "PyTorch $TORCH_VERSION ($TORCH_KIND) and build tools" "$TORCH_REMEDY" torch_step
  run_step 'What the project needs (requirements/runtime.txt)' "$NETWORK_REMEDY" runtime_step
  run_step 'The project, with its C++ extension (compiled the first time, about a minute)' \
    'read the compiler message in the log; setup.py builds csrc/' project_step
}
