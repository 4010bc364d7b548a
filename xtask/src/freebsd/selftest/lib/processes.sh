# Processes: exit codes, streams, terminals, users, and how containers live and end.

p_exit_codes() {
	t 42 run_sh 'exit 42'
	t 127 k run -q --rm "$IMAGE" no-such-program
	complains no-such-program
	t 125 k run -q --rm nope true
	t 125 k run -q --rm -u nobody-here "$IMAGE" true
	complains nobody-here
	t 0 k ls -aq
	equals ""
	t 0 k run -d --name box "$IMAGE" sleep 600
	t 126 k exec -q box /etc/passwd
	complains /etc/passwd
	t 137 k exec -q box sh -c 'kill -KILL $$'
	t 143 k exec -q box sh -c 'kill -TERM $$'
	t 0 k kill -s KILL box
	t any k wait box
	equals 137
	t 0 k rm box
}

p_streams() {
	k run -q --rm "$IMAGE" sh -c 'dd if=/dev/zero bs=65536 count=64 2>/dev/null; echo end >&2' \
		>"$WORK/burst" 2>"$WORK/burst-end"
	same "the bytes of a burst" 4194304 "$(wc -c <"$WORK/burst" | tr -d ' ')"
	same "what came after it on standard error" end "$(cat "$WORK/burst-end")"
	rm -f "$WORK/burst"
	printf 'one\ntwo\n' >"$WORK/input"
	STDIN=$WORK/input
	t 0 k run -qi --rm "$IMAGE" cat
	equals 'one
two'
	t 0 k run -q --rm "$IMAGE" cat
	equals ""
	STDIN=/dev/null
}

p_terminal() {
	t 0 k run -qt --rm "$IMAGE" sh -c 'test -t 0 && test -t 1 && tty'
	case $OUT in
	/dev/pts/* | /dev/console*) ;;
	*) fault "the terminal is '$OUT'" ;;
	esac
	{ have script && have stty; } || {
		skip "there is no script(1) or stty(1)"
		return
	}
	inner="stty rows 33 cols 77; $HERE/klee run -qt --rm $IMAGE stty size"
	if [ "$OS" = FreeBSD ]; then
		t 0 script -q "$WORK/typescript" sh -c "$inner"
	else
		t 0 script -qc "$inner" "$WORK/typescript"
	fi
	says "33 77"
}

p_users() {
	t 0 k run -d --name box -u nobody "$IMAGE" sleep 600
	t 0 k exec -q box id -u
	equals 65534
	# Where the host can't make the database of accounts, programs know no names.
	if [ "$OS" != FreeBSD ] || have pwd_mkdb; then
		t 0 k exec -q box id -un
		equals nobody
	fi
	t 0 k exec -q -u 1234:80 box sh -c 'id -u; id -g'
	equals '1234
80'
	t 0 k exec -q -u root box id -u
	equals 0
	t 125 k exec -q -u nobody-here box true
	complains nobody-here
	t 0 k rm -f box
}

p_environment() {
	t 0 k run -q --rm --name my-box -w /made/for/it -e A=1 -e 'B=x y=z' "$IMAGE" sh -c 'env; pwd; hostname'
	for line in A=1 'B=x y=z' PATH= /made/for/it my-box; do
		says "$line"
	done
	says_not KLEE_HOST
}

p_exec() {
	t 0 k run -d --name box -e A=1 "$IMAGE" sleep 600
	t 0 k exec -q -e A=2 box sh -c 'echo $A'
	equals 2
	t 5 k exec -q box sh -c 'exit 5'
	t 127 k exec -q box no-such-program
	t 0 k exec -q -w /usr box pwd
	equals /usr
	t 125 k exec -q -w /not/there box pwd
	printf 'in' >"$WORK/input"
	STDIN=$WORK/input
	t 0 k exec -qi box cat
	STDIN=/dev/null
	equals in
	t 0 k exec box true
	says "has exited with exit-code 0"
	t 0 k exec -d box sleep 600
	t 0 k top box
	says "sleep 600"
	t fails k exec -q nobody true
	complains "not found"
	t 0 k rm -f box
}

p_detached() {
	t 0 k run -d --name talker "$IMAGE" sh -c 'echo one; echo two >&2; sleep 0.3; echo three; exit 3'
	t any k wait talker
	equals 3
	t 0 k logs talker
	equals 'one
three'
	same "standard error" two "$ERR"
	t 0 k logs -n 1 talker
	equals three
	t 0 k inspect talker
	says '"exit_code": 3'
	t 0 k ls -a
	says talker
	t 0 k events --since 1h --until 0s --filter name=talker
	for event in create start die; do
		says "$event"
	done
	t 0 k rm talker
	t 127 k run -d "$IMAGE" no-such-program
	t 0 sweep
}

p_stop() {
	k run -dq --name polite "$IMAGE" sh -c "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.1; done" \
		>/dev/null
	k run -dq --name deaf "$IMAGE" sh -c "trap '' TERM; echo ready; while :; do sleep 0.1; done" >/dev/null
	soon "polite is ready" logged polite ready
	soon "deaf is ready" logged deaf ready
	t 1 k rm polite
	complains "running"
	t 0 k stop polite
	t 0 k inspect polite
	says '"exit_code": 7'
	t 0 k logs polite
	equals 'ready
bye'
	t 0 k stop -t 300ms deaf
	t 0 k inspect deaf
	says '"exit_code": 137'
	t 1 k stop deaf
	complains "not running"
	t 0 k rm deaf polite
	t 0 k run -d --name asked -J 'exec.stop=touch /stop; sleep 2' -J stop.timeout=60 "$IMAGE" \
		sh -c 'echo ready; while [ ! -e /stop ]; do sleep 0.1; done; exit 9'
	soon "asked is ready" logged asked ready
	t 0 k stop asked
	t 0 k inspect asked
	says '"exit_code": 9'
	t 0 k rm asked
	t 0 k ls -aq
	equals ""
}

# logged CONTAINER LINE: whether a container has printed the line.
logged() {
	k logs "$1" 2>/dev/null | grep -qx "$2"
}

# runs CONTAINER: whether it runs.
runs() {
	k ls --format '{{.name}}' 2>/dev/null | grep -qx "$1"
}

# ended CONTAINER: whether it is there and doesn't run.
ended() {
	k ls -a --format '{{.name}} {{.running}}' 2>/dev/null | grep -qx "$1 false"
}

p_names() {
	t 0 k create --name web "$IMAGE" sleep 600
	id=$OUT
	case $id in
	*[!0-9a-f]* | '') fault "the id is '$id'" ;;
	esac
	same "the length of an id" 12 "${#id}"
	t 1 k create --name web "$IMAGE"
	complains taken
	for reference in "$id" "${id%?}" web /web; do
		t 0 k inspect "$reference"
		same "the container of '$reference'" "$id" "$(field id)"
	done
	t 0 k rename web other
	t 0 k start -d other
	t 0 k restart -t 0s other
	soon "it runs again" runs other
	t 0 k create --name second "$IMAGE"
	# Several on a command line: the others are done past a failure.
	t 1 k rm -f other missing second
	complains missing
	t 0 k ls -aq
	equals ""
}

p_copy() {
	rm -rf "$WORK/here"
	mkdir -p "$WORK/here/sub"
	echo data >"$WORK/here/file"
	echo deep >"$WORK/here/sub/deep"
	ln -s /etc/passwd "$WORK/here/link"
	t 0 k create --name box -m v:/data "$IMAGE" sleep 600
	for state in stopped running; do
		[ "$state" = stopped ] || t 0 k start -d box
		t 0 k cp "$WORK/here" "box:/data/$state"
		t 0 k cp "box:/data/$state" "$WORK/back-$state"
		so "files come back" cmp "$WORK/here/sub/deep" "$WORK/back-$state/sub/deep"
		same "a link's target" /etc/passwd "$(readlink "$WORK/back-$state/link")"
		rm -rf "$WORK/back-$state"
	done
	so "the volume was reached" test -f "$PLACE/volumes/v/running/file"
	t 1 k cp box:/nothing "$WORK"
	complains /nothing
	t 0 k exec -q box sh -c "echo x > /new; rm $SITE/50x.html; mkdir /d"
	t 0 k diff box
	says "A /new"
	says "D $SITE/50x.html"
	says "A /d"
	says_not /bin/sh
	t 0 k rm -f box
	t 0 k volume rm v
}

p_watching() {
	t 0 k run -d --name box "$IMAGE" sleep 600
	t 0 k exec -d -u nobody box sleep 601
	t 0 k top box
	says "sleep 600"
	says "sleep 601"
	says root
	t 0 k stats --no-stream --format json box
	says '"name":"box"'
	t 0 k stats --no-stream
	says CPU
	t 0 k pause box
	t 0 k inspect box
	says '"status": "paused"'
	t 0 k unpause box
	t 0 k exec -q box true
	t 0 k rm -f box
}

p_pause_holds() {
	t 0 k run -d --name box "$IMAGE" sh -c 'i=0; while :; do i=$((i + 1)); echo $i >/count; sleep 0.05; done'
	soon "it counts" k exec -q box test -s /count
	t 0 k pause box
	k cp box:/count "$WORK/count1"
	sleep 0.5
	k cp box:/count "$WORK/count2"
	so "it stands still" cmp "$WORK/count1" "$WORK/count2"
	t 0 k unpause box
	t 0 k stop -t 0s box
	t 0 k rm box
}

p_restarts() {
	t 0 k run -d --name job --restart on-failure:1 "$IMAGE" sh -c 'echo run >> /runs; exit 3'
	soon "it was restarted once" restarted_once
	t 0 k rm -f job
	t 0 k run -d --name box --health-cmd 'test -e /healthy' --health-interval 200ms --health-retries 1 "$IMAGE" sleep 600
	soon "it is unhealthy" health_is unhealthy
	t 0 k exec -q box touch /healthy
	soon "it is healthy" health_is healthy
	t 0 k rm -f box
}

restarted_once() {
	k inspect job | grep -q '"restart_count": 1' && k inspect job | grep -q '"status": "exited"'
}

health_is() {
	k inspect box | grep -q '"status": "'"$1"'"'
}

# As with /etc/rc: the first process ends, and what it has left behind is the container's life.
p_services() {
	rc='(trap "" HUP; while [ ! -e /stop ]; do sleep 0.1; done) & exit 0'
	if [ "$OS" = FreeBSD ]; then
		t 0 k run -d --name services "$IMAGE" /bin/sh -c "$rc"
	else
		t 0 k run -d --name services --init=all "$IMAGE" /bin/sh -c "$rc"
	fi
	id=$(k ls -q)
	sleep 1
	t 0 k exec -q services true
	so "it still runs" runs services
	t 0 k exec -q services touch /stop
	soon "it ends with its last process" ended services
	if [ "$OS" = FreeBSD ]; then
		never "the jail is left" jls -j "$id" jid
		never "mounts are left" mounted_beneath "$id"
	fi
	t 0 k rm services
}

# mounted_beneath ID: whether something is mounted in a container's root, other than the root itself.
mounted_beneath() {
	mounts_in_work | grep "/$1/"
}

p_many() {
	count=$1
	i=0
	while [ "$i" -lt "$count" ]; do
		i=$((i + 1))
		k run -dq --name "many-$i" "$IMAGE" sleep 600 >"$WORK/many-$i" 2>&1 &
		eval "job_$i=$!"
	done
	i=0
	while [ "$i" -lt "$count" ]; do
		i=$((i + 1))
		eval "wait \$job_$i" || {
			SAID="klee run -dq --name many-$i" OUT=$(cat "$WORK/many-$i")
			fault "it isn't started"
		}
	done
	ids=$(k ls -q)
	# shellcheck disable=SC2086 # ids are words
	set -- $ids
	same "the number of running containers" "$count" $#
	[ "$OS" != FreeBSD ] || same "the number of jails" "$count" "$(jls name | grep -c "^[0-9a-f]\{12\}$")"
	for id in $ids; do
		k rm -f "$id" >/dev/null 2>&1 &
		eval "job_$id=$!"
	done
	for id in $ids; do
		eval "wait \$job_$id" || fault "container $id can't be removed"
	done
	t 0 k ls -aq
	equals ""
}

p_twenty() { p_many 20; }
p_four() { p_many 4; }
