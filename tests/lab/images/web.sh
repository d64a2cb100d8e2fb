#!/bin/sh
# nginx on top of busybox: a web server with a shell beside it.
set -eu
# shellcheck source=tests/lab/images/closure.sh
. /run/images/closure.sh
apt-get -qq update
apt-get -qq -y install nginx-light
cd /run/out
take usr/local/bin /usr/sbin/nginx
mkdir -p etc/nginx srv/www
cp /etc/nginx/mime.types /run/images/nginx.conf etc/nginx/
echo 'Hello from a pod that is a Slurm job.' >srv/www/index.html
