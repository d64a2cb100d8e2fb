#!/bin/sh
# Runs inside the fresh base: what every later layer and every container image shares.
set -eu
cat >/etc/dpkg/dpkg.cfg.d/lean <<'EOF'
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
path-exclude=/usr/share/man/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/locale/*
path-exclude=/usr/share/lintian/*
EOF
rm -rf /usr/share/man/* /usr/share/info/* /usr/share/locale/* /usr/share/lintian
find /usr/share/doc -type f ! -name copyright -delete
rm -rf /var/log/*.log /var/log/apt/* /var/cache/ldconfig /var/cache/debconf/*-old
: >/etc/machine-id
# debootstrap copied these from the host.
: >/etc/resolv.conf
echo localhost >/etc/hostname
