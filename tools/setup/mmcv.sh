# shellcheck shell=bash disable=SC2034  # some variables are read by the scripts that source this
# mmcv with compiled ops, and mmdet. To be sourced after common.sh and environment.sh.
#
# PyPI has mmcv as source only, and a plain `pip install` of it silently gives a package without ops.
# So: a wheel of an earlier build, else a published one, else a build; each must import before it
# counts. Wheels are kept for later environments in
#   ${REFERFORMER_CACHE:-${XDG_CACHE_HOME:-~/.cache}/referformer}/wheels/
#     onedl-mmcv<version>-torch<version>-<python>-<cpu|cuXYZ>/

MMCV_INDEX=https://mmwheels.onedl.ai/simple
BUILD_LOG=$REPO/work_dirs/mmcv_build.log

pinned_version() {  # pinned_version PACKAGE: its version in requirements/optional.txt
  sed -n "s/^$1==\([^ ;#]*\).*/\1/p" "$REPO/requirements/optional.txt"
}

cache_dir() { echo "${REFERFORMER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/referformer}"; }

cuda_tag() {  # cuda_tag CUDA_VERSION: 13.0 -> cu130; nothing -> cpu
  if [ -n "$1" ]; then echo "cu${1//./}"; else echo cpu; fi
}

mmcv_key() {  # mmcv_key MMCV_VERSION TORCH_VERSION PYTHON_TAG CUDA_TAG
  echo "onedl-mmcv$1-torch${2%%+*}-$3-$4"
}

nvcc_fits() {  # nvcc_fits CUDA_VERSION: a CUDA compiler of the same major version?
  local nvcc=${CUDA_HOME:+$CUDA_HOME/bin/}nvcc
  "$nvcc" --version 2>/dev/null | grep -q "release ${1%%.*}\."
}

# Without a CUDA compiler the ops of a CUDA PyTorch are built for the CPU, and kept apart.
mmcv_target() {  # prints TORCH_VERSION PYTHON_TAG CUDA_TAG of the environment
  local torch cuda tag
  tag=$("$PY" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
  torch=$(installed_torch) || return 1
  cuda=$("$PY" -c 'import torch; print(torch.version.cuda or "")')
  if [ -z "$cuda" ] || nvcc_fits "$cuda"; then
    echo "$torch $tag $(cuda_tag "$cuda")"
  else
    echo "$torch $tag $(cuda_tag "$cuda")-cpuops"
  fi
}

wheel_has_ops() {  # wheel_has_ops WHEEL: a readable wheel that holds mmcv/_ext*.so?
  "${PYTHON_BASE:-python3}" - "$1" <<'PYTHON'
import re, sys, zipfile
try:
    names = zipfile.ZipFile(sys.argv[1]).namelist()
except (OSError, zipfile.BadZipFile):
    sys.exit(1)
sys.exit(not any(re.fullmatch(r'mmcv/_ext[^/]*\.(so|pyd)', name) for name in names))
PYTHON
}

find_wheel() {  # find_wheel FOLDER: the wheel with ops for this processor in it
  local wheel
  for wheel in "$1"/*mmcv*_"$(uname -m)".whl; do
    if [ -f "$wheel" ] && wheel_has_ops "$wheel"; then
      echo "$wheel"
      return 0
    fi
  done
  return 1
}

mmcv_usable() {  # mmcv_usable VERSION: installed in the environment, and its ops load?
  "$PY" -c 'import sys, mmcv, mmcv.ops; sys.exit(mmcv.__version__ != sys.argv[1])' "$1"
}

# mmcv asks for opencv-python, which would overwrite the headless build: hence --no-deps.
try_wheel() {  # try_wheel WHEEL VERSION
  pip_install --no-deps --force-reinstall "$1" && mmcv_usable "$2"
}

fetch_wheel() {  # fetch_wheel FOLDER VERSION TORCH CUDA_TAG: a published wheel with ops, if there is one
  "$PY" -m pip download --no-input --no-deps --no-cache-dir --retries 0 --timeout 15 \
    --only-binary=:all: --find-links "$MMCV_INDEX/$4-torch${3%%+*}/index.html" \
    --dest "$1" "onedl-mmcv==$2" && find_wheel "$1"
}

# No debug symbols (-g0): half the time. --no-cache-dir: pip's cache may hold a build without ops.
build_wheel() {  # build_wheel FOLDER VERSION CUDA_TAG
  local hide=()
  if [[ $3 == *-cpuops ]]; then hide=(CUDA_VISIBLE_DEVICES=''); fi
  env ${hide[@]+"${hide[@]}"} MMCV_WITH_OPS=1 CFLAGS=-g0 CXXFLAGS=-g0 \
    MAX_JOBS="${MAX_JOBS:-$(getconf _NPROCESSORS_ONLN)}" \
    "$PY" -m pip wheel --no-input --verbose --no-deps --no-build-isolation --no-cache-dir \
    --no-binary onedl-mmcv --wheel-dir "$1" "onedl-mmcv==$2" >"$BUILD_LOG" 2>&1 ||
    { tail -n 30 "$BUILD_LOG"; return 1; }
}

build_progress() {  # '31 of 78 files compiled, about 4 min 2 s left', from the counter in the build's log
  local counter ready total seconds=$((SECONDS - ${BUILD_STARTED:-$SECONDS}))
  counter=$(grep -Eo '\[[0-9]+/[0-9]+\]' "$BUILD_LOG" 2>/dev/null | tail -n 1 | tr -d '[]')
  if [ -z "$counter" ]; then last_line; return; fi
  ready=${counter%/*} total=${counter#*/}
  printf 'mmcv: %d of %d files compiled, about %s left' \
    "$ready" "$total" "$(duration $((seconds * (total - ready) / ready)))"
}

store_wheel() {  # store_wheel WHEEL FOLDER: under its final name in one move
  local target
  target=$2/$(basename "$1")
  mkdir -p "$2" && mv -f "$1" "$target.part" && mv -f "$target.part" "$target"
}

# A published wheel that works, else one built here; kept in FOLDER.
new_wheel() {  # new_wheel WORK_FOLDER FOLDER VERSION TORCH CUDA_TAG
  local wheel
  if fetch_wheel "$1" "$3" "$4" "$5" && wheel=$(find_wheel "$1") && try_wheel "$wheel" "$3"; then
    NOTE="mmcv $3 ($5), published wheel, kept in $2"
  else
    rm -f "$1"/*.whl
    PROBLEM=$(compiler_problem)
    if [ -n "$PROBLEM" ]; then
      REMEDY=$COMPILER_REMEDY
      return 1
    fi
    PROBLEM="the build of mmcv $3 gave no wheel with working ops"
    build_wheel "$1" "$3" "$5" && wheel=$(find_wheel "$1") && try_wheel "$wheel" "$3" || return 1
    NOTE="mmcv $3 ($5), built here, kept in $2"
  fi
  store_wheel "$wheel" "$2"
}

install_mmcv() {
  local version torch tag cuda target folder wheel work result
  version=$(pinned_version onedl-mmcv)
  target=$(mmcv_target) || { PROBLEM='torch cannot be imported'; return 1; }
  read -r torch tag cuda <<<"$target"
  folder=$(cache_dir)/wheels/$(mmcv_key "$version" "$torch" "$tag" "$cuda")
  if mmcv_usable "$version"; then
    NOTE="mmcv $version with ops ($cuda) is installed"
  elif wheel=$(find_wheel "$folder") && try_wheel "$wheel" "$version"; then
    NOTE="mmcv $version ($cuda) from $wheel"
  else
    echo "no usable wheel in $folder"
    mkdir -p "$(dirname "$BUILD_LOG")" && work=$(mktemp -d) || return 1
    new_wheel "$work" "$folder" "$version" "$torch" "$cuda"
    result=$?
    rm -rf "$work"
    return "$result"
  fi
}

# Its own list of requirements names imaug, which it never imports and which brings another OpenCV.
install_mmdet() {
  local version
  version=$(pinned_version onedl-mmdetection)
  install_requirements "$REPO/requirements/mmdet.txt" &&
    pip_install --no-deps --no-build-isolation "onedl-mmdetection==$version" &&
    "$PY" -c 'import mmdet.models' && NOTE="mmdet $version"
}

mmdet_step() {
  local key
  key=$(key_of "$REPO/requirements/mmdet.txt" "$REPO/requirements/optional.txt")
  once "$STAMPS/mmdet" "$key" install_mmdet
}

MMCV_STEPS=2
mmcv_steps() {
  BUILD_STARTED=$SECONDS
  PROGRESS=build_progress
  rm -f "$BUILD_LOG"
  run_step 'mmcv with compiled ops (a build from source takes 7 to 12 minutes on 2 cores, once)' \
    "read $BUILD_LOG; with little memory try MAX_JOBS=1 (the package itself works without mmcv)" \
    install_mmcv
  PROGRESS=''
  run_step 'mmdet' "$NETWORK_REMEDY" mmdet_step
}
