# The daemon, the command line, and a base image.

DAEMON= # its process

# k ARGUMENTS...: klee, talking to the daemon of this test. Nothing takes more than a minute and a half.
k() {
	if [ -n "$TIMEOUT" ]; then
		timeout -k 5 90 "$HERE/klee" "$@"
	else
		"$HERE/klee" "$@"
	fi
}

# sh_in IMAGE-OR-OPTIONS... SCRIPT: runs a shell script in a new container that is removed afterwards; the
# last word is the script, the others are options.
run_sh() {
	script=
	options=
	for word in "$@"; do
		script=$word
	done
	count=$(($# - 1))
	while [ "$count" -gt 0 ]; do
		set -- "$@" "$1"
		shift
		count=$((count - 1))
	done
	shift
	k run -q --rm "$@" "$IMAGE" sh -c "$script"
}

write_config() {
	{
		echo "kleene_root: \"$ROOT\""
		echo "api_listening_sockets:"
		echo "  - address: \"http://$WORK/k.sock\""
		[ -z "$1" ] || echo "$1"
	} >"$WORK/config.yaml"
}

# Starts the daemon and waits until it listens. Its exit status tells whether it does.
daemon_start() {
	lines=$(grep -c listening "$WORK/kleened.log" 2>/dev/null)
	"$HERE/kleened" --config "$WORK/config.yaml" >>"$WORK/kleened.log" 2>&1 </dev/null &
	DAEMON=$!
	tries=0
	while [ "$(grep -c listening "$WORK/kleened.log")" -le "${lines:-0}" ]; do
		tries=$((tries + 1))
		if [ "$tries" -gt 200 ] || ! kill -0 "$DAEMON" 2>/dev/null; then
			SAID="$HERE/kleened --config $WORK/config.yaml" RC=1 OUT= ERR=$(tail -n 10 "$WORK/kleened.log")
			fault "the daemon doesn't listen"
			return 1
		fi
		sleep 0.1
	done
}

# daemon_end SIGNAL: ends the daemon; containers live on.
daemon_end() {
	[ -n "$DAEMON" ] || return 0
	kill "-$1" "$DAEMON" 2>/dev/null
	wait "$DAEMON" 2>/dev/null
	RC=$?
	DAEMON=
}

# What the daemon has said last, for the diagnostics of a point that has failed.
daemon_said() {
	[ ! -f "$WORK/kleened.log" ] || tail -n 6 "$WORK/kleened.log" | sed 's/^/#   kleened: /'
}

# After a point that has failed: nothing of it is in the way of the next one.
sweep() {
	[ -n "$DAEMON" ] || return 0
	ids=$(k ls -aq 2>/dev/null)
	# shellcheck disable=SC2086 # ids are words
	[ -z "$ids" ] || k rm -f $ids >/dev/null 2>&1
	k volume prune -f >/dev/null 2>&1
}

# Files that images and volumes are made of. They are in the base image at the same path.
make_site() {
	SITE=$WORK/site
	mkdir -p "$SITE/odd name" "$SITE/traps"
	echo '<h1>Welcome</h1>' >"$SITE/index.html"
	echo 'sorry' >"$SITE/50x.html"
	echo 'dot' >"$SITE/.hidden"
	: >"$SITE/EXAMPLE_DIRECTORY-DONT_ADD_OR_TOUCH_ANYTHING"
	: >"$SITE/odd name/-rf"
	ln -s index.html "$SITE/link"
	ln "$SITE/index.html" "$SITE/hard"
	chown 80:80 "$SITE" "$SITE/50x.html"
	chmod 4751 "$SITE/50x.html"
	chmod 0711 "$SITE"
	# Links that lead out of where they are.
	ln -s /etc "$SITE/traps/absolute"
	ln -s ../../../../../../../../etc "$SITE/traps/climbing"
}

p_daemon() {
	write_config ""
	daemon_start || return
	so "the socket is there" test -S "$WORK/k.sock"
	same "the socket's mode" "srw-rw----" "$(mode_of "$WORK/k.sock")"
	t 0 k version
	t 0 k info
	if [ "$ROOM" = zfs ]; then
		so "the Kleene root is a dataset" zfs list -H "$ROOT"
	else
		same "the root's mode" drwx------ "$(mode_of "$ROOT")"
	fi
	same "the mode of the metadata" -rw------- "$(mode_of "$PLACE/metadata.sqlite")"
}

p_base_image() {
	set -- image create -q -t base --add "$SITE"
	for program in /sbin/ifconfig /sbin/sysctl /usr/bin/script /sbin/ldconfig; do
		[ ! -x "$program" ] || [ "$OS" != FreeBSD ] || set -- "$@" --add "$program"
	done
	t 0 k "$@" host
	BASE_ID=$OUT
	t 0 k lsi
	says base
	t 0 k isi base
	same "the image's id" "$BASE_ID" "$(field id)"
	same "its tag" latest "$(field tag)"
	for key in name cmd env user instructions created dataset; do
		says "\"$key\":"
	done
	IMAGE=base
	t 0 run_sh 'echo hello from $(uname)'
	equals "hello from $OS"
	# shellcheck disable=SC2015 # a point that has failed ends the plan
	[ "$FAULTS" -eq 0 ]
}

# mode_of PATH: type and permissions, as ls prints them.
mode_of() {
	ls -ld "$1" 2>/dev/null | cut -c 1-10
}

# owner_of PATH: the numbers of user and group.
owner_of() {
	ls -ldn "$1" 2>/dev/null | {
		read -r _ _ user group _ && echo "$user:$group"
	}
}

# mountpoint_of VOLUME: where its files are on the host.
mountpoint_of() {
	OUT=$(k isv "$1" 2>&1)
	field mountpoint
}
