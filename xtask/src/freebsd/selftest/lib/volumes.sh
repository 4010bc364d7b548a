# Volumes and mounts of the host's files: the guide's walk-through, and what must never happen.

p_volume_basics() {
	t 0 k volume create my-vol
	equals my-vol
	t 0 k lsv
	says "VOLUME NAME"
	says my-vol
	t 0 k volume inspect my-vol
	says '"mountpoints": [],'
	same "the dataset" "$ROOT/volumes/my-vol" "$(field dataset)"
	same "the mount point" "$PLACE/volumes/my-vol" "$(field mountpoint)"
	same "the name" my-vol "$(field name)"
	created=$(field created)
	case $created in
	20??-??-??T??:??:??.??????Z) ;;
	*) fault "the time of creation is '$created'" ;;
	esac
	t 0 k volume create my-vol
	t 0 k volume rm my-vol
	equals my-vol
	t 1 k volume inspect my-vol
	complains "No such volume"
	never "its directory is left" test -e "$PLACE/volumes/my-vol"
}

p_volume_prune() {
	t 0 k volume create left-over
	echo n >"$WORK/answer"
	STDIN=$WORK/answer
	t any k volume prune
	t 0 k volume ls -q
	equals left-over
	echo y >"$WORK/answer"
	t 0 k volume prune
	STDIN=/dev/null
	says "WARNING! This will remove all unused volumes."
	says "Are you sure you want to continue? [y/N]:"
	says left-over
	t 0 k volume ls -q
	equals ""
}

p_volume_with_container() {
	t 0 k run -d --name devtest --mount myvol2:/app "$IMAGE" sleep 600
	id=${OUT%%
*}
	says "created execution instance"
	t 0 k volume inspect myvol2
	for line in '"container_id": "'"$id"'"' '"destination": "/app"' '"read_only": false' '"source": "myvol2"' \
		'"type": "volume"'; do
		says "$line"
	done
	t 0 k exec -q devtest sh -c 'echo kept > /app/note'
	so "the file is on the volume" grep -qx kept "$PLACE/volumes/myvol2/note"
	t 0 k container stop devtest
	equals "$id"
	t 0 k container rm devtest
	equals "$id"
	t 0 run_sh -m myvol2:/elsewhere 'cat /elsewhere/note'
	equals kept
	t 0 k volume rm myvol2
	equals myvol2
}

p_volume_populate() {
	t 0 k run --name nginxtest --mount "nginx-vol:$SITE" "$IMAGE" ls "$SITE"
	says 50x.html
	says EXAMPLE_DIRECTORY-DONT_ADD_OR_TOUCH_ANYTHING
	says index.html
	says "and its container exited with exit-code 0"
	volume=$PLACE/volumes/nginx-vol
	so "contents are copied" cmp "$SITE/index.html" "$volume/index.html"
	so "dot files are copied" cmp "$SITE/.hidden" "$volume/.hidden"
	so "odd names are copied" test -f "$volume/odd name/-rf"
	same "a link's target" index.html "$(readlink "$volume/link")"
	same "the directory's owner" 80:80 "$(owner_of "$volume")"
	same "the directory's mode" drwx--x--x "$(mode_of "$volume")"
	same "a file's owner" 80:80 "$(owner_of "$volume/50x.html")"
	same "a file's mode" -rwsr-x--x "$(mode_of "$volume/50x.html")"
	same "names of one file" "$(inode "$volume/hard")" "$(inode "$volume/index.html")"
	t 0 k container rm nginxtest
	# Once: what is in the volume, and what was deleted from it, stays as it is.
	echo mine >"$volume/index.html"
	rm "$volume/50x.html"
	t 0 run_sh -m "nginx-vol:$SITE" true
	so "changes are kept" grep -qx mine "$volume/index.html"
	never "deleted files come back" test -e "$volume/50x.html"
	t 0 k volume rm nginx-vol
}

inode() {
	ls -i "$1" | sed 's/^ *//; s/ .*//'
}

p_volume_read_only() {
	t 0 k run -d --name=writer --mount "shared:$SITE" "$IMAGE" sleep 600
	t 0 k run -d --name=reader --mount "shared:$SITE:ro" "$IMAGE" sleep 600
	t fails k exec -q reader touch "$SITE/new"
	complains "Read-only file system"
	t 0 k exec -q writer touch "$SITE/new"
	t 0 k exec -q reader ls "$SITE/new"
	t 0 k container inspect reader
	says '"read_only": true'
	says '"source": "shared"'
	t 0 k rm -f writer reader
	t 0 k volume rm shared
}

p_volume_in_use() {
	t 0 k create -m data:/data "$IMAGE" sleep 600
	id=$OUT
	t 1 k volume rm data
	complains "$id"
	t 0 k volume prune -f
	t 0 k volume ls -q
	equals data
	t 0 k start -d "$id"
	t 1 k volume rm data
	complains "$id"
	t 0 k rm -f "$id"
	t 0 k volume rm data
}

p_volume_names() {
	for name in ../x 'a b' x@y x/y . ..; do
		t fails k volume create "$name"
		t fails k create -m "$name:/x" "$IMAGE"
	done
	t fails k volume create -- -r
	t fails k create -m "v:relative" "$IMAGE"
	t fails k create -m "v:/a/../b" "$IMAGE"
	t fails k create -m "v:/a" -m "w:/a" "$IMAGE"
	t 0 k volume ls -q
	equals ""
	t 0 k ls -aq
	equals ""
}

p_nullfs() {
	mkdir -p "$WORK/host"
	echo text >"$WORK/host/file"
	# The inner mount is given first, and belongs in the outer one.
	t 0 run_sh -m "$WORK/host:/mnt" -m "$WORK/host:/mnt2:ro" -m "$WORK/host/file:/deep/er/file:ro" \
		-m "$WORK/host/file:/etc/group" -m "inner:/data/in/ner" -m "outer:/data" \
		'echo new > /mnt/new; cat /mnt/file /mnt2/new /deep/er/file /etc/group
		echo o > /data/o; echo i > /data/in/ner/i
		touch /mnt2/refused && echo wrong; (echo x > /deep/er/file) && echo wrong; exit 0'
	equals 'text
new
text
text'
	so "the file is on the host" grep -qx new "$WORK/host/new"
	never "a read-only mount was written to" test -e "$WORK/host/refused"
	so "the host's file is as it was" grep -qx text "$WORK/host/file"
	so "inner mounts are inner" test -f "$PLACE/volumes/inner/i" -a ! -e "$PLACE/volumes/outer/in/ner/i"
	t 0 k volume rm inner outer
}

p_nullfs_missing() {
	t 1 k create -m "$WORK/missing:/mnt" -m fresh:/x "$IMAGE"
	complains missing
	never "it was made" test -e "$WORK/missing"
	t fails k create -m /dev/null:/mnt "$IMAGE"
	t fails k create -m "$WORK/k.sock:/mnt" "$IMAGE"
	t 0 k volume ls -q
	equals ""
	t 0 k ls -aq
	equals ""
	# A source that goes away later fails the start, and nothing is mounted.
	mkdir "$WORK/missing"
	t 0 k create --name later -m "$WORK/missing:/mnt" -m fresh:/x "$IMAGE" true
	rmdir "$WORK/missing"
	t 125 k start later
	complains missing
	so "it doesn't run" ended later
	t 0 k rm later
	t 0 k volume rm fresh
}

p_links_stay_inside() {
	ls -A /etc >"$WORK/etc-before"
	echo text >"$WORK/host/file"
	set --
	for trap in absolute climbing; do
		where=$SITE/traps/$trap/kleene-escape-$trap
		set -- "$@" -m "v:$where/deep" -m "$WORK/host/file:$where-file"
	done
	t 0 run_sh "$@" "touch $where/deep/x; ls /etc"
	for name in absolute climbing absolute-file climbing-file; do
		says "kleene-escape-$name"
	done
	t 0 k create --name box "$IMAGE" sleep 600
	t 0 k cp "$WORK/host/file" "box:$SITE/traps/climbing/kleene-escape"
	t 0 k start -d box
	t 0 k cp "$WORK/host/file" "box:$SITE/traps/absolute/kleene-escape2"
	t 0 k exec -q box ls /etc
	says kleene-escape
	says kleene-escape2
	t 0 k rm -f box
	so "one file is on the volume" test -f "$PLACE/volumes/v/x"
	t 0 k volume rm v
	ls -A /etc >"$WORK/etc-after"
	so "the host's /etc is untouched" cmp "$WORK/etc-before" "$WORK/etc-after"
}

# A dataset beneath the source doesn't show through nullfs by itself.
p_nullfs_child_dataset() {
	[ "$ROOM" = zfs ] || {
		skip "the room is 'dir'"
		return
	}
	[ "$OS" = FreeBSD ] || {
		skip "bind mounts are recursive on Linux"
		return
	}
	zfs create "$FOREIGN/source" && zfs create "$FOREIGN/source/child"
	echo deep >"$WORK/zfs/source/child/file"
	t any run_sh -m "$WORK/zfs/source:/mnt" 'cat /mnt/child/file'
	if [ "$RC" -eq 0 ]; then
		equals deep
		t fails run_sh -m "$WORK/zfs/source:/mnt:ro" 'touch /mnt/child/new'
	else
		complains child
	fi
	t 0 zfs destroy -r "$FOREIGN/source"
}
