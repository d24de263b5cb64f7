# shellcheck shell=bash
# Messages, numbered steps and stamps, shared by the set-up scripts. To be sourced by bash >= 3.2.
#
# A step is a function that runs in this shell, its output in $LOG. It returns non-zero on failure
# and may set
#   NOTE     what to say about it when it is done ('reused', the version it chose)
#   PROBLEM  what went wrong, in one sentence
#   REMEDY   what to do about it, where that is better than the remedy given to run_step

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
exec 3>&2  # the trap below may run while a step has its output in the log
LOG=/dev/null
STEP=0
STEPS=0
NOTE='' PROBLEM='' REMEDY='' STEP_NAME='' TICKER='' PROGRESS=''

warn() { printf 'WARNING: %s\n' "$*" | tee -a "$LOG" >&2; }

# fail PROBLEM REMEDY: ends the script before or between steps.
fail() {
  printf '\nFAILED: %s\nWhat to do: %s\n' "$1" "$2" | tee -a "$LOG" >&2
  exit 1
}

duration() {  # duration SECONDS -> '45 s' or '3 min 5 s'
  if (($1 < 60)); then printf '%d s' "$1"; else printf '%d min %d s' $(($1 / 60)) $(($1 % 60)); fi
}

# start_log FILE: a new log; the one before it is kept as FILE.previous.
start_log() {
  mkdir -p "$(dirname "$1")" || fail "cannot make the folder of the log $1" 'make the repository writable'
  if [ -f "$1" ]; then mv -f "$1" "$1.previous"; fi
  LOG=$1
  printf '%s, started %s in %s\n' "$0" "$(date)" "$REPO" >"$LOG"
}

# run_step NAME REMEDY COMMAND [ARG...]: the command's output goes to the log only.
run_step() {
  begin_step "$1" "$2"
  shift 2
  start_ticker
  "$@" >>"$LOG" 2>&1
  end_step $? quiet
}

# run_step_live NAME REMEDY COMMAND [ARG...]: the command's output is shown and logged.
# VIEW names a filter for what is shown; the log gets everything.
run_step_live() {
  begin_step "$1" "$2"
  shift 2
  "$@" 2>&1 | tee -a "$LOG" | "${VIEW:-cat}"
  # Where only a part was shown, a failure shows the end of the log.
  end_step "${PIPESTATUS[0]}" "${VIEW:+quiet}"
}

begin_step() {
  STEP=$((STEP + 1))
  STEP_NAME=$1 REMEDY=$2 NOTE='' PROBLEM='' STEP_STARTED=$SECONDS
  printf '[%d/%d] %s\n' "$STEP" "$STEPS" "$STEP_NAME" | tee -a "$LOG"
}

end_step() {
  local seconds=$((SECONDS - STEP_STARTED))
  stop_ticker
  if (($1 != 0)); then step_failed "$1" "$2" "$seconds"; fi
  printf '      %s (%s)\n' "${NOTE:-done}" "$(duration "$seconds")" | tee -a "$LOG"
}

step_failed() {
  {
    printf '\nFAILED: step %d of %d, "%s", after %s (exit code %d)\n' \
      "$STEP" "$STEPS" "$STEP_NAME" "$(duration "$3")" "$1"
    if [ "$2" = quiet ] && [ "$LOG" != /dev/null ]; then
      echo 'Last lines of the log:'
      tail -n 15 "$LOG" | tr '\r' '\n' | cut -c1-300 | sed 's/^/    /'
    fi
    if [ -n "$PROBLEM" ]; then printf 'Problem: %s\n' "$PROBLEM"; fi
    printf 'What to do: %s\nFull log: %s\n' "$REMEDY" "$LOG"
    printf '%s: FAILED at step %d of %d, "%s"\n' "$(basename "$0")" "$STEP" "$STEPS" "$STEP_NAME"
  } >&2
  exit 1
}

# While a quiet step runs: every second on a terminal, every 30 s elsewhere, its time and its last line
# or what the function named in PROGRESS prints.
start_ticker() {
  local every=30 start='' end='\n'
  if [ -t 1 ]; then every=1 start='\r' end='\033[K'; fi
  (
    # The sleep outlives a killed ticker: it must not hold a pipe or a lock of ours open.
    while sleep "$every" >/dev/null 2>&1 3>&- 9>&-; do
      printf "$start"'      %s  %s'"$end" \
        "$(duration $((SECONDS - STEP_STARTED)))" "$("${PROGRESS:-last_line}")"
    done
  ) &
  TICKER=$!
}

stop_ticker() {
  if [ -n "$TICKER" ]; then
    kill "$TICKER" 2>/dev/null
    wait "$TICKER" 2>/dev/null
    if [ -t 1 ]; then printf '\r\033[K'; fi
  fi
  TICKER=''
}

last_line() { tail -c 2000 "$LOG" | tr '\r' '\n' | grep -v '^[[:space:]]*$' | tail -n 1 | cut -c1-80; }

interrupted() {
  stop_ticker
  printf '\n%s: interrupted in step %d of %d. The same command goes on from there.\n' \
    "$(basename "$0")" "$STEP" "$STEPS" >&3
  exit 130
}
trap interrupted INT TERM

# Stamps: a step that was done is not done again while its key (what it depends on) is the same.
# The stamp is written last and in one move, so an interrupted step is done again.

key_of() {  # key_of FILE_OR_FOLDER... -> a checksum of names and contents; absent ones are left out
  local path
  for path in "$@"; do
    if [ -e "$path" ]; then
      find "$path" -type f ! -name '*.pyc' ! -name '*.so' ! -path '*.egg-info/*' -print
    fi
  done | LC_ALL=C sort | while IFS= read -r path; do
    cksum <"$path" && printf '%s\n' "${path#"$REPO"/}"
  done | cksum | tr ' ' '-'
}

stamp_matches() {  # stamp_matches FILE KEY
  [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]
}

write_stamp() {  # write_stamp FILE KEY
  mkdir -p "$(dirname "$1")" && printf '%s\n' "$2" >"$1.tmp" && mv -f "$1.tmp" "$1"
}

once() {  # once STAMP KEY COMMAND [ARG...]
  local stamp=$1 key=$2
  shift 2
  if stamp_matches "$stamp" "$key"; then
    NOTE='already there, nothing it depends on has changed'
    return 0
  fi
  rm -f "$stamp"
  "$@" && write_stamp "$stamp" "$key"
}
