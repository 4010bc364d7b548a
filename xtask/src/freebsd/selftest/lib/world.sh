# The machine: where there is room to work in, and what is on it before and after.

# lists DIRECTORY: writes down everything that must be the same afterwards, a file a kind.
lists() {
	mkdir -p "$1"
	if [ "$OS" = FreeBSD ]; then
		{ zpool_works && zpool list -H -o name; } >"$1/pools" 2>/dev/null
		{ zpool_works && zfs list -H -t all -o name; } >"$1/datasets" 2>/dev/null
		mount -p >"$1/mounts" 2>/dev/null
		jls name path >"$1/jails" 2>/dev/null
		ifconfig -l >"$1/interfaces" 2>/dev/null
		{ test -c /dev/pf && pfctl -sr && pfctl -sn; } >"$1/pf rules" 2>/dev/null
		rctl >"$1/limits" 2>/dev/null
		mdconfig -l >"$1/memory disks" 2>/dev/null
		devfs rule showsets >"$1/devfs rule sets" 2>/dev/null
	else
		# Other tests mount things meanwhile.
		mounts_in_work >"$1/mounts"
		ls /sys/class/net >"$1/interfaces" 2>/dev/null
	fi
	# Only programs of this test: those of another daemon come and go as they like.
	ps -axo pid,command 2>/dev/null | grep "$HERE/kleene" | grep -v grep >"$1/processes"
	ls -A /etc >"$1/files in etc"
	true
}

# unchanged KIND: whether a list is as it was.
unchanged() {
	SAID="diff of the $1 before and after" RC=0 ERR=
	OUT=$(diff "$WORK/before/$1" "$WORK/after/$1" 2>&1) || fault "the $1 aren't as they were"
}

# Whether ZFS can be used. The first call may have the kernel load it.
zpool_works() {
	have zpool && have zfs && zpool list -H >/dev/null 2>&1
}

# free_megabytes DIRECTORY: what can be written there.
free_megabytes() {
	df -km "$1" 2>/dev/null | sed -n '$p' | {
		read -r _ _ _ free _ && echo "$free"
	}
}

# writable DIRECTORY MEGABYTES: whether there is that much room in it.
writable() {
	[ -d "$1" ] || return 1
	probe=$1/.kleene-selftest.$$
	(: >"$probe") 2>/dev/null || return 1
	rm -f "$probe"
	free=$(free_megabytes "$1")
	[ "${free:-0}" -ge "$2" ] 2>/dev/null
}

# Makes WORK, a private directory. Where nothing has room for it, memory has.
make_work() {
	for place in "$WORK_IN" /tmp /var/tmp /root /usr/tmp /var; do
		if [ -n "$place" ] && writable "$place" "$WORK_MEGABYTES"; then
			WORK=$place/kst.$$
			mkdir -m 0700 "$WORK" || exit 1
			return
		fi
		[ "$place" != "$WORK_IN" ] || [ -z "$place" ] || say_and_end "$place has no room for $WORK_MEGABYTES MB"
	done
	for place in /mnt /media /var/tmp /tmp; do
		# Nothing is hidden by a mount on an empty directory.
		[ -d "$place" ] && [ -z "$(ls -A "$place")" ] || continue
		if mount -t tmpfs -o "size=${WORK_MEGABYTES}m" tmpfs "$place" 2>/dev/null; then
			WORK_MOUNT=$place
			WORK=$place/kst.$$
			mkdir -m 0700 "$WORK" || exit 1
			return
		fi
	done
	say_and_end "there is neither a directory with $WORK_MEGABYTES MB of room nor a tmpfs: use --work DIRECTORY"
}

# Makes or finds the pool; sets DATASET, the Kleene root, and FOREIGN, a dataset beside it.
make_pool() {
	case $STORAGE in
	disk)
		zpool create -o cachefile=none -m "$WORK/pool" "$POOL" "$DISK" || return 1
		POOL_MADE=yes
		;;
	file)
		file=${POOL_FILE:-$WORK/pool.img}
		[ -e "$file" ] || POOL_FILE_MADE=$file
		truncate -s 512m "$file" && zpool create -o cachefile=none -m "$WORK/pool" "$POOL" "$file" || return 1
		POOL_MADE=yes
		;;
	memory)
		MEMORY_DISK=$(mdconfig -a -t swap -s 512m) || return 1
		zpool create -o cachefile=none -m "$WORK/pool" "$POOL" "/dev/$MEMORY_DISK" || return 1
		POOL_MADE=yes
		;;
	esac
	zfs create -o "mountpoint=$WORK/zfs" "$POOL/kleene-selftest-$$" || return 1
	FOREIGN=$POOL/kleene-selftest-$$
	DATASET=$FOREIGN/kleene
}

remove_pool() {
	if [ -n "$FOREIGN" ]; then
		zfs destroy -R "$FOREIGN" 2>/dev/null || zfs destroy -Rf "$FOREIGN"
		FOREIGN=
	fi
	if [ -n "$POOL_MADE" ]; then
		zpool destroy "$POOL" 2>/dev/null || zpool destroy -f "$POOL"
		POOL_MADE=
	fi
	if [ -n "$MEMORY_DISK" ]; then
		mdconfig -d -u "$MEMORY_DISK"
		MEMORY_DISK=
	fi
	[ -z "$POOL_FILE_MADE" ] || rm -f "$POOL_FILE_MADE"
	POOL_FILE_MADE=
}

# Mounts beneath the working directory, the last one first.
mounts_in_work() {
	if [ "$OS" = FreeBSD ]; then
		mount -p | sed 's/[	 ][	 ]*/ /g' | cut -d ' ' -f 2
	else
		cut -d ' ' -f 2 /proc/self/mounts
	fi | grep "^$WORK/" | sed -n '1!G;h;$p'
}

# Ends jails, processes and mounts that a daemon which didn't work has left.
sweep_machine() {
	if [ "$OS" = FreeBSD ]; then
		jls name path 2>/dev/null | while read -r name path; do
			case $path in
			"$WORK"/*) jail -r "$name" ;;
			esac
		done
	fi
	ps -axo pid,command 2>/dev/null | grep "$HERE/kleene" | grep -v grep | while read -r pid _; do
		grep -q "^ *$pid " "$WORK/before/processes" || kill -9 "$pid" 2>/dev/null
	done
	mounts_in_work | while read -r place; do
		# A pool's own are unmounted with it.
		case $place in
		"$WORK/pool" | "$WORK/zfs" | "$WORK/zfs"/*) [ "$OS" = FreeBSD ] && is_zfs "$place" && continue ;;
		esac
		umount "$place" 2>/dev/null || umount -f "$place"
	done
	if [ -f "$WORK/before/devfs rule sets" ]; then
		devfs rule showsets 2>/dev/null | while read -r set; do
			grep -qx "$set" "$WORK/before/devfs rule sets" || devfs rule -s "$set" delset
		done
	fi
}

is_zfs() {
	mount -p | sed 's/[	 ][	 ]*/ /g' | grep -q " $1 zfs "
}

remove_work() {
	[ -n "$WORK" ] && [ -d "$WORK" ] || return 0
	if [ -n "$(mounts_in_work)" ]; then
		echo "# something is still mounted beneath $WORK, which is left"
		return 1
	fi
	case $WORK in
	*/kst.$$)
		have chflags && chflags -R noschg,nouchg "$WORK" 2>/dev/null
		rm -rf "$WORK"
		;;
	esac
	[ -z "$WORK_MOUNT" ] || umount "$WORK_MOUNT"
	WORK=
}
