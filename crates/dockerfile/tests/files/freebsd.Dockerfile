FROM FreeBSD:14.1-RELEASE@6b3c0a1f
ARG PKGS="nginx-lite ca_root_nss"
ENV ASSUME_ALWAYS_YES yes
SHELL ["/bin/sh", "-ec"]
RUN pkg update && \
    pkg install $PKGS && \
    pkg clean -a && rm -rf /var/cache/pkg/*
RUN <<-EOF
	sysrc nginx_enable=YES
	cat > /usr/local/etc/nginx/nginx.conf <<CONF
	events { worker_connections 1024; }
	CONF
	service nginx configtest
EOF
RUN cat > /etc/rc.conf.d/x <<A && cat >> /etc/motd <<-'B'
x_enable="YES"
A
	Welcome to $HOSTNAME
	B
ADD --checksum=sha256:0000 https://example.org/app.tgz /tmp/app.tgz
USER www
WORKDIR ${HOME:-/usr/local/www}/app
VOLUME ["/var/db/app data", "/var/log"]
EXPOSE 8080-8090
CMD /usr/local/sbin/nginx -g "daemon off;"
