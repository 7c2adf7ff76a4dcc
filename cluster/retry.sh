#!/usr/bin/env bash
# Runs a command, and again when it fails:  bash cluster/retry.sh delia run --config my.yaml
#
# A run goes on where it stopped. Exit code 2 (something for the user to fix), 130 and 143 (stopped) end it at once.
# DELIA_ATTEMPTS (3) limits the attempts, DELIA_PAUSE_S (60) lies between two.
set -u
ATTEMPTS=${DELIA_ATTEMPTS:-3}
PAUSE_S=${DELIA_PAUSE_S:-60}
stopped=
command=

stop() {
    stopped=1
    [ -z "$command" ] || kill -TERM "$command" 2>/dev/null
}

# bash would run a trap only after a command in the foreground, so the command runs beside it.
run() {
    "$@" &
    command=$!
    wait "$command"
    code=$?
    while kill -0 "$command" 2>/dev/null; do # a signal has ended `wait`, not the command
        wait "$command"
        code=$?
    done
    command=
}

trap stop TERM INT
for ((attempt = 1; ; attempt++)); do
    run "$@"
    case $code in
        0 | 2 | 130 | 143) exit "$code" ;;
    esac
    if [ -n "$stopped" ] || ((attempt >= ATTEMPTS)); then
        exit "$code"
    fi
    echo "retry: attempt $attempt of $ATTEMPTS ended with exit code $code; the next one in $PAUSE_S s" >&2
    run sleep "$PAUSE_S"
    [ -z "$stopped" ] || exit 143
done
