#!/bin/sh
# Plays what Kleene promises on this machine, as root, and prints what held in the Test Anything Protocol.
# Needs nothing but a base system: no network, no packages, no kernel modules that could be loaded, no rc.
# What it makes it removes; what was there stays as it was.

set -u
umask 022
PATH=/sbin:/bin:/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin
LC_ALL=C
export PATH LC_ALL
unset KLEE_HOST KLEE_CONFIG KLEE_THEME KLEE_TLS_VERIFY 2>/dev/null

HERE=$(cd "$(dirname "$0")" && pwd) || exit 1

usage() {
	cat <<'END'
Usage: sh selftest.sh [OPTIONS]

Where containers are kept; the first that is possible, without any of these: a pool of its own on a file,
or in memory, and then a few points with plain directories; plain directories alone where there is no ZFS.
  --disk DEVICE     make a pool on this blank disk: WHAT IS ON IT IS LOST
  --pool-file FILE  make a pool on this file, which is made if it isn't there
  --pool NAME       use a dataset of this pool
  --no-zfs          use plain directories only

  --only TEXT       play only the points whose name has this in it; several: 'one|other'
  --work DIRECTORY  put temporary files there
  --keep            leave everything as it is at the end, to look around in
  --help
END
}

say_and_end() {
	echo "Bail out! $1"
	echo "selftest: $1" >&2
	exit 1
}

STORAGE=auto DISK= POOL_FILE= POOL=kst$$ ONLY= KEEP= WORK_IN=
while [ $# -gt 0 ]; do
	case $1 in
	--disk | --pool-file | --pool | --only | --work)
		[ $# -ge 2 ] || say_and_end "$1 needs a value"
		;;
	esac
	case $1 in
	--disk) STORAGE=disk DISK=$2 && shift ;;
	--pool-file) STORAGE=file POOL_FILE=$2 && shift ;;
	--pool) STORAGE=pool POOL=$2 && shift ;;
	--no-zfs) STORAGE=none ;;
	--only) ONLY=$2 && shift ;;
	--work) WORK_IN=$2 && shift ;;
	--keep) KEEP=yes ;;
	--help | -h) usage && exit ;;
	*) usage >&2 && exit 2 ;;
	esac
	shift
done

for part in tap world daemon volumes processes jails limits images survival; do
	# shellcheck source=/dev/null # each of them
	. "$HERE/lib/$part.sh"
done

OS=$(uname -s)
PLAN=start ROOM= ROOT= PLACE= IMAGE= SITE= BASE_ID=
WORK= WORK_MOUNT= WORK_MEGABYTES=500
POOL_MADE= POOL_FILE_MADE= MEMORY_DISK= FOREIGN= DATASET=
TIMEOUT=
! have timeout || TIMEOUT=yes

# Ends what runs and removes what was made, whatever has happened before.
clean_up() {
	trap '' INT TERM HUP
	cd /
	[ -n "$WORK" ] || return
	[ -z "$DAEMON" ] || sweep
	daemon_end TERM
	sweep_machine
	remove_pool
	remove_work
}

interrupted() {
	echo "Bail out! interrupted"
	exit 1
}

# open_room zfs|dir: a daemon with nothing but a base image. Its exit status tells whether there is one.
open_room() {
	ROOM=$1
	PLAN=$1
	case $ROOM in
	zfs)
		ROOT=$DATASET
		PLACE=$WORK/zfs/kleene
		;;
	dir)
		ROOT=$WORK/dir
		PLACE=$WORK/dir
		;;
	esac
	: >"$WORK/kleened.log"
	mkdir -p "$WORK/host"
	play "a daemon starts on a private socket" p_daemon &&
		play "a base image is made from the host's programs" p_base_image
}

# Ends the room's daemon; nothing of its containers is left.
close_room() {
	point "the daemon ends, and no container with it" p_close
}

p_close() {
	t 0 k ls -aq
	equals ""
	t 0 k image prune -af
	t 0 k lsi
	says_not base
	daemon_end TERM
	same "the daemon's exit status" 0 "$RC"
	soon "no monitor is left" no_programs
	SAID="mounts beneath $PLACE" OUT=$(mounts_in_work | grep "^$PLACE/" | while read -r place; do
		[ "$OS" = FreeBSD ] && is_zfs "$place" || echo "$place"
	done)
	equals ""
}

no_programs() {
	! ps -axo command | grep "^$HERE/kleene" | grep -v grep
}

# What every system promises.
common_points() {
	point "volumes are created, listed, inspected, removed" p_volume_basics
	point "prune asks, and obeys the answer" p_volume_prune
	point "a new volume comes with its container, and outlives it" p_volume_with_container
	point "a new volume is filled with the image's files, once" p_volume_populate
	point "a read-only volume refuses writing" p_volume_read_only
	point "a volume in use is kept" p_volume_in_use
	point "bad names and destinations are refused" p_volume_names
	point "directories and files of the host are mounted" p_nullfs
	point "sources that are missing are told, nothing is made" p_nullfs_missing
	point "links that lead out stay inside" p_links_stay_inside
	point "datasets beneath a source are mounted or refused" p_nullfs_child_dataset
	point "/dev has no hardware in it" p_devices
	point "exit codes are the command's own" p_exit_codes
	point "output and input" p_streams
	point "a terminal, with its size" p_terminal
	point "users" p_users
	point "environment, working directory, host name" p_environment
	point "processes in a running container" p_exec
	point "detached processes and their logs" p_detached
	point "stopping asks, then insists" p_stop
	point "names, ids, several at once" p_names
	point "files are copied in and out; diff" p_copy
	point "top, stats" p_watching
	point "pause and unpause" p_pause_holds
	point "restarts and health checks" p_restarts
	point "a container of services lives until the last one ends" p_services
	point "network drivers" p_drivers
	point "host commands need to be allowed" p_host_commands
	point "ulimits" p_ulimit
	point "limits that can't be are refused" p_limits_refused
	point "limits are enforced" p_limits
	point "processors" p_cpuset
	point "a quota bounds a container's files" p_quota
	point "a Dockerfile is built" p_build
	point "builds that fail" p_build_fails
	point "images that are in use are kept; tags" p_image_names
	point "images are saved and loaded, containers committed" p_archives
	point "files are exported and fetched" p_export
	point "images of datasets" p_datasets
	point "images that can't be made" p_methods
	point "files with flags are removed" p_immutable_files
	point "containers outlive the daemon" p_daemon_killed
	point "a daemon is killed in the middle of its work" p_killed_in_the_middle
}

freebsd_points() {
	point "a container is a jail" p_jail
	point "jail parameters" p_jail_parameters
	point "what only other systems have is refused" p_other_systems
}

# What depends on where files are kept.
short_points() {
	point "a new volume is filled with the image's files, once" p_volume_populate
	point "directories and files of the host are mounted" p_nullfs
	point "links that lead out stay inside" p_links_stay_inside
	point "files are copied in and out; diff" p_copy
	point "files with flags are removed" p_immutable_files
	point "a daemon is killed in the middle of its work" p_killed_in_the_middle
	point "four containers at once" p_four
}

plan_zfs() {
	open_room zfs || return
	common_points
	[ "$OS" != FreeBSD ] || freebsd_points
	point "twenty containers at once" p_twenty
	close_room
}

plan_dir_after_zfs() {
	open_room dir || return
	short_points
	close_room
}

plan_dir() {
	open_room dir || return
	common_points
	[ "$OS" != FreeBSD ] || freebsd_points
	point "four containers at once" p_four
	close_room
}

[ "$(id -u)" = 0 ] || say_and_end "run this as root: it makes jails and mounts"
for program in kleened klee kleene-monitor; do
	[ -x "$HERE/$program" ] || say_and_end "$HERE/$program is missing"
done
if [ "$OS" = FreeBSD ]; then
	if [ "$STORAGE" = auto ]; then
		if zpool_works; then STORAGE=file; else STORAGE=none; fi
	fi
elif [ "$STORAGE" != none ]; then
	STORAGE=none
fi

echo "TAP version 13"
make_work
trap clean_up EXIT
trap interrupted INT TERM HUP
KLEE_HOST=http://$WORK/k.sock
HOME=$WORK
export KLEE_HOST HOME
cd "$WORK" || exit 1
lists "$WORK/before"
started=$(date +%s)
echo "# $(uname -srm), files in $WORK, containers in: $STORAGE"
make_site

if [ "$STORAGE" = file ] && [ -z "$POOL_FILE" ] && [ -n "$WORK_MOUNT" ]; then
	STORAGE=memory
fi
if [ "$STORAGE" != none ]; then
	if make_pool 2>"$WORK/stderr"; then
		plan_zfs
		daemon_end TERM
		plan_dir_after_zfs
	else
		sed 's/^/# /' "$WORK/stderr"
		say_and_end "the pool can't be made"
	fi
else
	plan_dir
fi
daemon_end TERM

if [ -n "$KEEP" ]; then
	trap - EXIT
	echo "# everything is left in $WORK${FOREIGN:+ and $FOREIGN}; the daemon: $HERE/kleened --config $WORK/config.yaml"
else
	PLAN=end
	sweep_machine
	remove_pool
	lists "$WORK/after"
	for list in "$WORK/before/"*; do
		kind=${list##*/}
		p_unchanged() { unchanged "$kind"; }
		play "the $kind are as they were" p_unchanged
	done
fi
echo "# $(($(date +%s) - started)) s"
echo "1..$COUNT"
[ "$BROKEN" -eq 0 ] || echo "# $BROKEN of $COUNT points failed"
[ "$BROKEN" -eq 0 ]
