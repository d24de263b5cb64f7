#!/usr/bin/env bash
# From a bare clone to a model that follows sentences: set-up, data, test of the model that comes with
# the package, a video; and a training from scratch, which shows how it learns.
set -uo pipefail

usage() {
  cat <<'TEXT'
Usage: bash tools/quickstart.sh [--venv DIR] [--fresh] [--setup-only]
  --venv DIR     the virtual environment (default: .venv at the repository root; made where absent)
  --fresh        train, test and infer again; earlier results move to work_dirs/quickstart/previous/
  --setup-only   stop when the environment stands
What an earlier run finished is used again where the code and the data it was made from are unchanged;
otherwise it is moved to work_dirs/quickstart/previous/ and made anew. Nothing is deleted.
TEXT
}

here=$(dirname "${BASH_SOURCE[0]}")
# shellcheck source=tools/setup/common.sh
source "$here/setup/common.sh"
# shellcheck source=tools/setup/environment.sh
source "$here/setup/environment.sh"

FRESH='' SETUP_ONLY=''
while (($#)); do
  case $1 in
    --venv) use_venv "${2:?--venv needs a folder}"; shift 2 ;;
    --fresh) FRESH=1; shift ;;
    --setup-only) SETUP_ONLY=1; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; fail "unknown argument '$1'" 'see the usage above' ;;
  esac
done

RUN=work_dirs/quickstart
DATA=data/synthetic
MODEL=referformer_vswin-micro_synthetic  # comes with the package
CONFIG=configs/$MODEL-quick.py
FRAMES_CONFIG=configs/$MODEL-quick-frames.py
cd "$REPO" || exit 1

# stage NAME TITLE KEY OUTPUT run_step|run_step_live|run_step_brief COMMAND...: makes OUTPUT, or says that it is
# used again.
stage() {
  local stamp=$RUN/done/$1 title=$2 key=$3 output=$4 how=$5
  shift 5
  if [ -z "$FRESH" ] && [ -e "$output" ] && stamp_matches "$stamp" "$key"; then
    begin_step "$title" ''
    NOTE="using $output of an earlier run: what it was made from has not changed"
    end_step 0 quiet
    return
  fi
  rm -f "$stamp"
  set_aside "$output"
  "$how" "$title" 'read the message above; the same command then goes on from this step' "$@"
  write_stamp "$stamp" "$key"
}

set_aside() {  # set_aside PATH: what is there moves to previous/
  if [ -e "$1" ]; then
    local kept
    kept=$RUN/previous/$(date +%Y%m%d_%H%M%S)/$(basename "$1")
    if ! mkdir -p "$(dirname "$kept")" || ! mv "$1" "$kept"; then
      fail "cannot move $1 to $kept" 'make the folder writable'
    fi
    echo "      $1 of an earlier run is kept as $kept" | tee -a "$LOG"
  fi
}

# Of MMEngine's log: the progress, the scores and the errors.
progress_lines() {
  local line
  local train='\[ *([0-9]+)/([0-9]+)\].* eta: ([^ ]+).* loss: ([0-9.]+)'
  local scores='^( +J +F |(all|appearance|motion|relation)[a-z_]* |error:)'
  while IFS= read -r line; do
    if [[ $line == *'Iter(train)'* && $line =~ $train ]]; then
      printf '      iteration %4d of %d   loss %s   %s left\n' \
        "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}" "${BASH_REMATCH[4]}" "${BASH_REMATCH[3]}"
    elif [[ $line =~ $scores ]]; then
      echo "      $line"
    fi
  done
}
run_step_brief() {
  local VIEW=progress_lines
  run_step_live "$@"
}

last_checkpoint() { cat "$RUN/$1/last_checkpoint"; }

infer() {
  local sentences=() line
  while IFS= read -r line; do sentences+=("$line"); done <"$RUN/example.txt"
  "$PY" tools/infer.py "$RUN/example.mp4" "${sentences[@]}" --config "$MODEL" --out "$RUN/infer"
}

# Two processes, where there are two cores and no GPU, are faster than threads.
run_test() {
  if (($(getconf _NPROCESSORS_ONLN) > 1)) &&
    "$PY" -c 'import sys, torch; sys.exit(torch.cuda.is_available())'; then
    "$PY" -m torch.distributed.run --standalone --nproc-per-node 2 tools/test.py "$@" \
      --launcher pytorch
  else
    "$PY" tools/test.py "$@"
  fi
}

report() {
  "$PY" tools/analysis_tools/plot_curve.py "$RUN/frames" "$RUN/clips" "$RUN/curve.png" \
    --overwrite &&
    "$PY" tools/setup/quickstart_report.py "$RUN"
}

check_machine
start_log "$REPO/$RUN/log.txt"
describe_machine
problem=$(compiler_problem)
if [ -n "$problem" ]; then
  warn "$problem: deformable attention runs in its slower PyTorch form." \
    "To change that, $COMPILER_REMEDY"
fi

STEPS=$((ENVIRONMENT_STEPS + 8))
if [ -n "$SETUP_ONLY" ]; then STEPS=$ENVIRONMENT_STEPS; fi
environment_steps
unlock_environment
if [ -n "$SETUP_ONLY" ]; then
  echo "quickstart.sh: the environment stands in $VENV ($(duration "$SECONDS"))"
  exit 0
fi

if [ -e "$DATA" ] && [ ! -e "$RUN/done/data" ]; then
  begin_step "Data in $DATA" ''
  NOTE='found there, not made by this script: used as it is'
  end_step 0 quiet
else
  # --fresh is about the model: the data stay where their generator is the same.
  fresh=$FRESH FRESH=''
  stage data "Data in $DATA" "$(key_of tools/dataset_tools referformer/datasets/synthetic)" \
    "$DATA" run_step_live "$PY" tools/dataset_tools/make_synthetic.py "$DATA" \
    --workers "$(getconf _NPROCESSORS_ONLN)" --preview "$RUN/data.png"
  FRESH=$fresh
fi

data_key=$(key_of "$DATA/meta_expressions" "$DATA/train/meta.json" "$DATA/valid/meta.json")
code_key="$(key_of referformer configs csrc) $(cat "$STAMPS/constraints.txt") $data_key"
test_key="$(key_of tools/test.py) $code_key"
stage test "Test of $MODEL, which comes with the package" "$test_key" "$RUN/test" \
  run_step_brief run_test "$MODEL" \
  --work-dir "$RUN/test" --out "$RUN/test/metrics.json" --show-dir "$RUN/test/pictures"

stage video 'A held-out video as a file' \
  "$(key_of tools/setup/example_video.py) $data_key" "$RUN/example.mp4" \
  run_step "$PY" tools/setup/example_video.py "$DATA" "$RUN/example.mp4"

stage infer 'Sentences on that video' \
  "$(key_of tools/infer.py "$RUN/example.mp4") $code_key" "$RUN/infer" run_step_live infer

stage frames 'Training from scratch, 1: single frames (about 4 minutes on 2 cores)' \
  "$(key_of tools/train.py) $code_key" "$RUN/frames" \
  run_step_brief "$PY" tools/train.py "$FRAMES_CONFIG" --work-dir "$RUN/frames"
stage clips 'Training from scratch, 2: clips (about 3 minutes on 2 cores)' \
  "$(key_of tools/train.py) $code_key $(key_of "$(last_checkpoint frames)")" "$RUN/clips" \
  run_step_brief "$PY" tools/train.py "$CONFIG" --work-dir "$RUN/clips" \
  --cfg-options load_from="$(last_checkpoint frames)"
stage scratch 'Test of what was trained here' \
  "$test_key $(cat "$RUN/done/clips") $(key_of "$(last_checkpoint clips)")" "$RUN/scratch" \
  run_step_brief run_test "$CONFIG" "$(last_checkpoint clips)" \
  --work-dir "$RUN/scratch" --out "$RUN/scratch/metrics.json"

run_step_live 'Results' "read $LOG" report
echo "quickstart.sh: done in $(duration "$SECONDS") (log: $LOG)"
