FROM debian:bookworm-slim

# explicitly set user/group IDs
RUN set -eux; \
	groupadd -r db --gid=999; \
# see also the upstream packaging
	useradd -r -g db --uid=999 --home-dir=/var/lib/db --shell=/bin/bash db; \
	install --verbose --directory --owner db --group db --mode 1777 /var/lib/db

ENV GOSU_VERSION 1.17
RUN set -eux; \
	savedAptMark="$(apt-mark showmanual)"; \
	apt-get update; \
	apt-get install -y --no-install-recommends ca-certificates wget; \
	rm -rf /var/lib/apt/lists/*; \
	dpkgArch="$(dpkg --print-architecture | awk -F- '{ print $NF }')"; \
	wget -O /usr/local/bin/gosu "https://example.org/$GOSU_VERSION/gosu-$dpkgArch"; \
	[ -z "$savedAptMark" ] || apt-mark manual $savedAptMark > /dev/null; \
	chmod +x /usr/local/bin/gosu; \
	gosu nobody true

ENV LANG en_US.utf8
ENV PG_MAJOR 17
ENV PATH $PATH:/usr/lib/db/$PG_MAJOR/bin
ENV PGDATA /var/lib/db/data

RUN mkdir -p "$PGDATA" && chown -R db:db "$PGDATA" && chmod 1777 "$PGDATA"
VOLUME /var/lib/db/data

COPY --chown=999:999 --chmod=0755 docker-entrypoint.sh docker-ensure-initdb.sh /usr/local/bin/
RUN ln -sT docker-ensure-initdb.sh /usr/local/bin/docker-enforce-initdb.sh
ENTRYPOINT ["docker-entrypoint.sh"]

# a fast shutdown
STOPSIGNAL SIGINT
EXPOSE 5432
USER db:db
CMD ["db"]
