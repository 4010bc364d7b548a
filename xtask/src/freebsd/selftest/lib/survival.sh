# Daemons die, at any time; containers live on, and nothing is left half made.

p_daemon_killed() {
	t 0 k run -d --name job -m "$WORK/host:/flag" "$IMAGE" \
		sh -c 'echo early; while [ ! -e /flag/go ]; do sleep 0.1; done; echo late; exit 9'
	t 0 k run -d --name box -m v:/v "$IMAGE" sleep 600
	t 0 k ls --format '{{.jid}} {{.name}}'
	before=$OUT
	daemon_end KILL
	: >"$WORK/host/go"
	[ "$OS" != FreeBSD ] || soon "the job ends by itself" few_jails 1
	daemon_start || return
	soon "its end is known" ended job
	t 0 k inspect job
	says '"exit_code": 9'
	t 0 k logs job
	equals 'early
late'
	t 0 k ls --format '{{.jid}} {{.name}}'
	case $before in
	*"$OUT"*) ;;
	*) fault "the other container isn't what it was before: $before" ;;
	esac
	t 0 k exec -q box touch /v/file
	t 0 k logs box
	# Politely, this time.
	daemon_end TERM
	same "the daemon's exit status" 0 "$RC"
	daemon_start || return
	t 0 k exec -q box ls /v/file
	t 0 k rm -f job box
	t 0 k volume rm v
	rm -f "$WORK/host/go"
}

# few_jails NUMBER: whether there are no more than so many jails of containers. Another daemon may have some.
few_jails() {
	[ "$(jls path | grep -c "^$PLACE/")" -le "$1" ]
}

p_killed_in_the_middle() {
	i=0
	while [ "$i" -lt 4 ]; do
		i=$((i + 1))
		k run -dq --name "mid-$i" -m "mid-$i:$SITE" "$IMAGE" sleep 600 >/dev/null 2>&1 &
		eval "job_$i=$!"
	done
	tries=0
	while [ "$(containers_on_disk | grep -c .)" -lt 2 ] && [ "$tries" -lt 100 ]; do
		tries=$((tries + 1))
		sleep 0.1
	done
	daemon_end KILL
	i=0
	while [ "$i" -lt 4 ]; do
		i=$((i + 1))
		eval "wait \$job_$i"
	done
	daemon_start || return
	t 0 k ls -aq
	same "containers on the disk" "$(printf '%s\n' "$OUT" | sort)" "$(containers_on_disk)"
	# shellcheck disable=SC2086 # ids are words
	[ -z "$OUT" ] || t 0 k rm -f $OUT
	t 0 k volume prune -f
	same "containers on the disk" "" "$(containers_on_disk)"
	same "volumes on the disk" "" "$(ls "$PLACE/volumes" | grep -v '^outside$')"
	SAID="mounts beneath $PLACE/container"
	OUT=$(mounts_in_work | grep "^$PLACE/container/")
	equals ""
}

# The containers that have files, in order.
containers_on_disk() {
	if [ "$ROOM" = zfs ]; then
		zfs list -H -d 1 -o name "$ROOT/container" | sed -n 's,.*/container/,,p' | sort
	else
		ls "$PLACE/container" | grep '^[0-9a-f]\{12\}$' | sort
	fi
}
