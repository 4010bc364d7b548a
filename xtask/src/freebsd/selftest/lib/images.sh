# Images: builds, archives, datasets, and what is left of them.

p_build() {
	mkdir -p "$WORK/context/sub"
	echo page >"$WORK/context/page.txt"
	echo deep >"$WORK/context/sub/deep.txt"
	cat >"$WORK/context/Dockerfile" <<END
FROM base
ARG VERSION=1
ENV PLACE=/srv/site
WORKDIR \$PLACE
COPY page.txt .
COPY --chown=80:80 sub/ sub/
RUN echo "version \$VERSION" > version && chmod 0600 version && ln -s /etc trap
COPY page.txt trap/kleene-selftest-page
USER nobody
CMD cat page.txt
END
	t 0 k build -t web --build-arg VERSION=2 "$WORK/context"
	says "Step 1/"
	says "--> Snapshot created: @"
	snapshot=$(printf '%s\n' "$OUT" | sed -n 's/.*Snapshot created: \(@[0-9a-f]*\).*/\1/p' | sed 1q)
	t 0 k run -q --rm "web$snapshot" sh -c 'cat /srv/site/page.txt; test ! -e /srv/site/version'
	equals page
	never "a link in the image led to the host's /etc" test -e /etc/kleene-selftest-page
	t 0 k run -q --rm web
	equals page
	t 0 k run -q --rm -u root web sh -c 'cat version sub/deep.txt /etc/kleene-selftest-page; pwd; ls -ln sub/deep.txt'
	for line in 'version 2' deep page /srv/site ' 80 '; do
		says "$line"
	done
	t 0 k isi web
	same "the image's user" nobody "$(field user)"
	t 0 k build -t web --build-arg VERSION=2 "$WORK/context"
	says "Using cache"
	t 0 k image history web
	t 0 k ls -aq
	equals ""
}

p_build_fails() {
	mkdir -p "$WORK/context"
	printf 'FROM base\nRUN echo first > /steps\nRUN exit 7\n' >"$WORK/context/Broken"
	t fails k build -t broken -f Broken "$WORK/context"
	case $OUT$ERR in
	*"returned a non-zero code: 7"*) ;;
	*) fault "the exit code isn't told" ;;
	esac
	t 0 k run -q --rm broken:failed cat /steps
	equals first
	t 0 k image rm broken:failed
	printf 'FROM base\nCOPY ../file .\n' >"$WORK/context/Broken"
	t fails k build --rm -f Broken "$WORK/context"
	printf 'FROM base\nFLY away\n' >"$WORK/context/Broken"
	t fails k build --rm -f Broken "$WORK/context"
	t 0 k ls -aq
	equals ""
	never "mounts of builds are left" container_mounts
}

container_mounts() {
	mounts_in_work | grep "^$PLACE/container/"
}

p_image_names() {
	mkdir -p "$WORK/context"
	printf 'FROM base\nENV A=1\n' >"$WORK/context/Small"
	t 0 k build -q -t web -f Small "$WORK/context"
	t 0 k create --name box web
	id=$OUT
	t 1 k image rm web
	complains "$id"
	t 0 k rm box
	t 0 k image tag web web:2
	t fails k isi web:latest
	t 0 k image rm web:2
	t fails k isi web:2
	t 0 k image prune -f
	t 0 k isi base
}

# Settings and layers come back as they were; the second layer is loaded onto a known one.
p_archives() {
	mkdir -p "$WORK/context"
	printf 'FROM base\nRUN echo saved > /saved && rm /etc/profile\nCMD cat /saved\n' >"$WORK/context/Saved"
	t 0 k build -q -t app -f Saved "$WORK/context"
	t 0 k image save -o "$WORK/app.tar" app
	t 0 k image rm app
	t 0 k image load -i "$WORK/app.tar"
	rm "$WORK/app.tar"
	t 0 k run -q --rm app sh -c 'cat /saved; test ! -e /etc/profile'
	equals saved
	t 0 k create --name box app
	t 0 k container commit -c 'CMD echo committed' box flat
	t 0 k rm box
	t 0 k isi flat
	says "echo committed"
	t 0 k image rm flat app
}

p_export() {
	k image export base >"$WORK/base.tar" 2>"$WORK/stderr"
	same "the exit status of an export" 0 $?
	t 0 k image create -q -t fetched fetch "file://$WORK/base.tar"
	t 0 k run -q --rm fetched sh -c "cat $SITE/.hidden; ls -ln $SITE/50x.html"
	for line in dot -rwsr-x--x ' 80 '; do
		says "$line"
	done
	t 0 k image rm fetched
}

p_datasets() {
	[ "$ROOM" = zfs ] || {
		t fails k image create zfs-clone no/such/dataset
		complains ZFS
		return
	}
	t 0 k isi base
	tree=$(field dataset)
	t 0 zfs create "$FOREIGN/userland"
	# The archive is there if it was played how images are exported.
	[ -f "$WORK/base.tar" ] || k image export base >"$WORK/base.tar"
	t 0 tar -xpf "$WORK/base.tar" -C "$WORK/zfs/userland"
	rm -f "$WORK/base.tar"
	for method in zfs-clone zfs-copy; do
		t 0 k image create -q -t "$method" "$method" "$FOREIGN/userland"
		t 0 k run -q --rm "$method" cat "$SITE/.hidden"
		equals dot
	done
	t fails k image create zfs-clone no/such/dataset
	complains no/such/dataset
	t fails k image create zfs-copy "$ROOT"
	t 0 k image rm zfs-clone zfs-copy
	t 0 zfs destroy -r "$FOREIGN/userland"
	[ -n "$tree" ] && so "the base image's dataset is there" zfs list -H "$tree"
}

# Files that may not be changed don't keep containers and images from being removed.
p_immutable_files() {
	have chflags || {
		skip "there are no file flags here"
		return
	}
	t 0 k create --name box "$IMAGE" true
	id=$OUT
	root=$PLACE/container/$id
	[ ! -d "$root/root" ] || root=$root/root
	[ -d "$root/etc" ] || root=$(find "$PLACE/container/$id" -type d -name etc | sed -n '1s,/etc$,,p')
	so "the container's files are there" test -d "$root/etc"
	t 0 chflags schg,uarch "$root/etc/passwd" "$root/etc"
	t 0 k container commit box immutable
	t 0 k run -q --rm immutable cat /etc/passwd
	t 0 k rm box
	never "its files are left" test -e "$PLACE/container/$id"
	t 0 k image rm immutable
}

p_methods() {
	t fails k image create fetch "file://$WORK/no-such-archive.tar"
	complains no-such-archive
	t fails k image create --add "$WORK/not-there" host
	complains not-there
	t fails k image create --update host
	complains update
	t fails k image create -t base:bad fetch "file://$WORK/config.yaml"
	t 0 k lsi
	says_not bad
}
