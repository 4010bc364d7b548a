# What a container is on the outside: a jail with its parameters, its mounts and its devices.

p_jail() {
	t 0 k run -d --name box -m v:/v -m "$WORK/host:/mnt:ro" "$IMAGE" sleep 600
	t 0 k ls -q
	id=$OUT
	t 0 k ls --format '{{.jid}}'
	jid=$OUT
	t 0 jls -j "$id" jid name host.hostname
	equals "$jid $id box"
	t 0 jls -j "$id" path
	so "the root is beneath the Kleene root" beneath "$OUT" "$PLACE"
	so "volume, directory and /dev are mounted" mounted_beneath "$id"
	so "it runs" runs box
	t 0 k stop -t 0s box
	never "the jail is left" jls -j "$id" jid
	never "mounts are left" mounted_beneath "$id"
	t 0 k start -d box
	so "the jail is there again" jls -j "$id" jid
	# A jail that somebody else has ended is noticed.
	jail -r "$id" 2>/dev/null
	soon "its end is noticed" ended box
	never "mounts are left" mounted_beneath "$id"
	t 0 k rm box
	t 0 k volume rm v
}

beneath() {
	case $1 in
	"$2"/*) ;;
	*) return 1 ;;
	esac
}

p_jail_parameters() {
	t 0 k run -d --name box -J host.hostname=mars -J allow.raw_sockets -J enforce_statfs=1 "$IMAGE" sleep 600
	t 0 k ls -q
	t 0 jls -j "$OUT" host.hostname allow.raw_sockets enforce_statfs
	equals "mars true 1"
	t 0 k exec -q box hostname
	equals mars
	# jls prints what no JSON may have.
	t 0 k exec -q box hostname "$(printf 'ma\trs')"
	t 0 run_sh 'echo hello'
	t 0 k rm -f box
	for parameter in path=/ name=x jid=7 command=/bin/sh exec.prestart=/usr/bin/true exec.noprestart=/usr/bin/true \
		exec.poststop=/usr/bin/true allow.flying mount.fstab=/etc/fstab; do
		t fails k run -q --rm -J "$parameter" "$IMAGE" true
		complains "${parameter%%=*}"
	done
	t 0 k ls -aq
	equals ""
}

p_host_commands() {
	t fails k run -q --rm -J "exec.prestart=touch $WORK/was-here" "$IMAGE" true
	complains allow_host_commands
	never "it was run" test -e "$WORK/was-here"
	t 0 k ls -aq
	equals ""
	daemon_end TERM
	write_config "allow_host_commands: true"
	daemon_start || return
	t 0 k run -q --rm -J "exec.prestart=touch '$WORK/before start'" -J "exec.poststop=touch $WORK/after-stop" "$IMAGE" true
	so "it ran before the start" test -e "$WORK/before start"
	soon "it ran after the end" test -e "$WORK/after-stop"
	t 125 k run -q --rm -J exec.prestart=false "$IMAGE" true
	daemon_end TERM
	write_config ""
	daemon_start
}

p_drivers() {
	t 0 k run -d --name inherits -l host "$IMAGE" sleep 600
	t 0 k run -d --name disabled -l disabled "$IMAGE" sleep 600
	if [ "$OS" = FreeBSD ]; then
		for name in inherits disabled; do
			t 0 k ls --format '{{.id}} {{.name}}'
			id=$(printf '%s\n' "$OUT" | sed -n "s/ $name\$//p")
			t 0 jls -j "$id" ip4 ip6
			case $name in
			inherits) equals "inherit inherit" ;;
			disabled) equals "disable disable" ;;
			esac
		done
	fi
	t 0 k rm -f inherits disabled
	for driver in ipnet vnet; do
		t fails k run -q --rm -l "$driver" "$IMAGE" true
		complains "'host'"
	done
	t fails k run -q --rm -n no-such-network "$IMAGE" true
	t 0 k ls -aq
	equals ""
}

# Nothing of the host's hardware can be reached: not even the names are there.
p_devices() {
	t 0 run_sh 'cd /dev && find . | sort'
	unknown=
	for node in $OUT; do
		case ${node#./} in
		. | ctty | null | zero | full | random | urandom | tty | console | ptmx | stdin | stdout | stderr | core) ;;
		fd | fd/* | pts | pts/* | pty* | shm | mqueue) ;;
		*) unknown="$unknown ${node#./}" ;;
		esac
	done
	same "devices that don't belong there" "" "$unknown"
	t 0 run_sh 'echo x > /dev/null && dd if=/dev/zero bs=1 count=3 2>/dev/null | wc -c | tr -d " "'
	equals 3
	if [ "$OS" = FreeBSD ]; then
		t fails run_sh 'mknod /bad b 0 5 2>/dev/null && dd if=/bad of=/dev/null count=1'
	fi
}

p_other_systems() {
	for flag in --io-weight=50 --shm-size=8m --ulimit=msgqueue=10; do
		t fails k create "$flag" "$IMAGE" true
		complains FreeBSD
	done
	t 0 k ls -aq
	equals ""
}
