# syntax=docker/dockerfile:1
#
# A web server built from source, in the manner of distributions' images.
ARG BASE_TAG=12-slim
FROM registry.example.org:5000/debian:${BASE_TAG}

LABEL org.opencontainers.image.title="web server" \
      org.opencontainers.image.vendor='Example & Sons'

ENV WEB_VERSION   1.27.1
ENV NJS_VERSION=0.8.5 \
    PKG_RELEASE=1~bookworm \
    DYNPKG_RELEASE="2"

RUN set -x \
# create the user first, so that its id is the same everywhere
    && groupadd --system --gid 101 web \
    && useradd --system --gid web --no-create-home --home /nonexistent \
               --comment "web user" --shell /bin/false --uid 101 web \

    # a blank line above is tolerated
    && apt-get update \
    && apt-get install --no-install-recommends --no-install-suggests -y gnupg1 ca-certificates \
    && for server in \
        hkp://keyserver.example.org:80 \
        pgp.example.org \
    ; do \
        echo "Fetching key from $server"; \
        gpg1 --keyserver "$server" --recv-keys ABCDEF0123456789 && found=yes && break; \
    done; \
    test -z "${found:-}" && echo >&2 "error: no key" && exit 1; \
    dpkgArch="$(dpkg --print-architecture)" \
    && case "$dpkgArch" in \
        amd64|arm64) echo "deb https://pkg.example.org/ ${dpkgArch} main" ;; \
        *) exit 1 ;; \
    esac > /etc/apt/sources.list.d/web.list \
    && rm -rf /var/lib/apt/lists/*

# logs go to the container's streams
RUN ln -sf /dev/stdout /var/log/web/access.log \
    && ln -sf /dev/stderr /var/log/web/error.log

COPY docker-entrypoint.sh /
COPY ["10-listen-on-ipv6.sh", "20-envsubst.sh", "/docker-entrypoint.d/"]
COPY <<EOF /etc/web/conf.d/default.conf
server {
    listen ${PORT:-80};
    root /usr/share/web/html;
}
EOF
ENTRYPOINT ["/docker-entrypoint.sh"]

EXPOSE 80 443/tcp

STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=30s --timeout=3s --retries=3 \
    CMD curl -fsS http://localhost/ || exit 1

CMD ["web", "-g", "daemon off;"]
