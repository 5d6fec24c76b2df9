#!/bin/sh
# Print each event of a verdict that has turned to `fail`, as JSON. Needs the command `nats` only
# (github.com/nats-io/natscli).
#
#   degraded-releases.sh [N]    look at so many events, then end; without it go on for ever
set -eu

user=${MOORGATE_NATS_USER:-integrator}
# The environment, not the command line: other users of the machine can read that.
export NATS_URL="${MOORGATE_NATS_URL:-nats://127.0.0.1:4222}" NATS_USER="$user" NATS_PASSWORD="$MOORGATE_NATS_PASSWORD"
if [ -n "${MOORGATE_NATS_CA_FILE:-}" ]; then
  export NATS_CA="$MOORGATE_NATS_CA_FILE"
fi

left=${1:--1}
while [ "$left" -ne 0 ]; do
  # Waits for the next event and acknowledges it; nothing for 30 s is no error.
  if event=$(nats --js-domain MOORGATE --inbox-prefix "_INBOX_$user" --timeout 30s \
      consumer next MOORGATE_EVENTS "$user" --raw 2>&1); then
    case $event in
      *'"type":"moorgate.v1.verdict-flipped"'*'"result":"fail"'*) printf '%s\n' "$event" ;;
    esac
    left=$((left - 1))
  else
    case $event in
      *[Tt]imeout*|*"no message"*) ;;
      *) printf '%s\n' "$event" >&2; exit 1 ;;
    esac
  fi
done
