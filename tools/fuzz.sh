#!/usr/bin/env bash
# Runs the fuzzers of build-fuzz/, each for some seconds, from the corpus and what earlier runs have
# found. An input that fails is kept in build-fuzz/failed/: put it into the corpus once it is mended.
# Usage: tools/fuzz.sh SECONDS [TARGET...]        `keep` for SECONDS: adds to the corpus what was found
set -euo pipefail
cd "$(dirname "$0")/.."

program=build-fuzz/tests/fuzz/rille_fuzz
corpus=tests/fuzz/corpus
found=build-fuzz/found
seconds=${1:-10}
shift || true
mkdir -p build-fuzz/failed

for target in "${@:-$(ls $corpus)}"; do
  for name in $target; do
    mkdir -p "$found/$name"
    export RILLE_FUZZ_TARGET=$name
    if [[ $seconds == keep ]]; then
      # What reaches new code, not what reaches it more often: the corpus stays small.
      $program -detect_leaks=0 -use_counters=0 -set_cover_merge=1 "$corpus/$name" "$found/$name" \
        2>&1 | tail -n 1
      continue
    fi
    log=build-fuzz/$name.log
    # Leaks are looked for at the end, when the runtime is closed: until then much of what there is
    # can only be reached from Lua's heap, where nobody looks.
    if ! $program -detect_leaks=0 -max_total_time="$seconds" -max_len=1500 \
      -artifact_prefix="build-fuzz/failed/$name-" "$found/$name" "$corpus/$name" >"$log" 2>&1; then
      grep -a -A 30 -E '^failed|ERROR|SUMMARY|runtime error' "$log" | head -n 60 || true
      tail -n 3 "$log"
      echo "fuzz: $name failed, see $log" >&2
      exit 1
    fi
    echo "$name: $(tail -n 1 "$log")"
  done
done
