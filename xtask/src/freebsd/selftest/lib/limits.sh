# Limits of containers.

p_ulimit() {
	t 0 k run -q --rm --ulimit nofile=64:128 "$IMAGE" sh -c 'ulimit -n; ulimit -Hn'
	equals '64
128'
}

# What can't be enforced is refused before anything is made.
p_limits_refused() {
	for flag in --memory=10Q --memory=900t --cpus=0 --cpuset=3-1 --cpuset=60000 --pids-limit=-3 \
		--ulimit=files=3 --stop-signal=NOPE --workdir=relative --restart=sometimes; do
		t fails k create "$flag" "$IMAGE" true
	done
	if [ "$OS" = FreeBSD ] && ! racct; then
		for flag in --memory=64m --pids-limit=20 --cpus=0.5; do
			t fails k run -q --rm "$flag" "$IMAGE" true
			complains kern.racct.enable
		done
	fi
	t 0 k ls -aq
	equals ""
}

# Whether the kernel counts what jails use.
racct() {
	[ "$(sysctl -n kern.racct.enable 2>/dev/null)" = 1 ]
}

p_limits() {
	if [ "$OS" = FreeBSD ] && ! racct; then
		skip "kern.racct.enable is 0"
		return
	fi
	t any k run -q --rm --pids-limit 8 "$IMAGE" sh -c 'for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 2 & done; wait'
	complains fork
	if [ "$OS" != FreeBSD ]; then
		return
	fi
	# The kernel looks every second: what is used must stay in use for some.
	t any k run -q --rm --memory 32m "$IMAGE" sh -c 'dd if=/dev/zero bs=100m count=1 | { sleep 4; wc -c; }'
	says_not 104857600
	t 0 k run -d --name box --memory 64m --pids-limit 20 "$IMAGE" sleep 600
	# What the kernel has left of the one before may live on for a moment.
	t 0 k ls -q --filter name=box
	id=$OUT
	t 0 rctl "jail:$id"
	says "jail:$id:memoryuse:deny=67108864"
	says "jail:$id:maxproc:deny=20"
	t 0 k update --pids-limit 7 box
	t 0 rctl "jail:$id"
	says "jail:$id:maxproc:deny=7"
	t 0 k stats --no-stream --format json box
	says '"limit":7'
	t 0 k rm -f box
	t 0 rctl
	says_not "$id"
}

p_cpuset() {
	t 0 k run -d --name box --cpuset 0 "$IMAGE" sleep 600
	if [ "$OS" = FreeBSD ]; then
		t 0 k ls -q --filter name=box
		t 0 cpuset -g -j "$OUT"
		says "mask: 0"
		says_not "mask: 0, 1"
	else
		t 0 k exec -q box grep Cpus_allowed_list /proc/self/status
		says "	0"
	fi
	t 0 k rm -f box
}

p_quota() {
	[ "$ROOM" = zfs ] || {
		skip "the room is 'dir'"
		return
	}
	# Noise: what is compressed doesn't count.
	t any k run -q --rm --storage-quota 8m "$IMAGE" sh -c 'dd if=/dev/random of=/file bs=65536 count=192 && sync'
	complains "Disc quota exceeded"
}
