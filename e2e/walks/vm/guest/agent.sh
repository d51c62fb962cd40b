#!/bin/sh
# The guest's end of the command channel (channel.ts): reads lines "ID SECONDS SCRIPT", the script in base64, and
# answers with a line "ID CODE BYTES BYTES" and the bytes of standard output and standard error. Commands run
# concurrently.
set -- /dev/vport*p1
until [ -c "$1" ]; do
  sleep 0.1
  set -- /dev/vport*p1
done
exec 3<>"$1"
# A separate tmpfs, so that the agent works when /run and the disk are full.
mkdir -p /run/agent
mount -t tmpfs agent /run/agent
cd /run/agent || exit
printf 'ready 0 0 0\n' >&3
while read -r id seconds script <&3; do
  {
    printf %s "$script" | base64 -d >"$id.sh"
    timeout -k 5 "$seconds" sh "$id.sh" </dev/null >"$id.out" 2>"$id.err" 3>&-
    code=$?
    # A lock on the port would not exclude anyone: flock locks belong to the open file, which all commands have
    # inherited.
    {
      flock 4
      # shellcheck disable=SC2046
      printf '%s %s %s %s\n' "$id" "$code" $(stat -c %s "$id.out" "$id.err") >&3
      cat "$id.out" "$id.err" >&3
    } 4>>answers.lock
    rm -f "$id.sh" "$id.out" "$id.err"
  } &
done
