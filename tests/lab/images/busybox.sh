#!/bin/sh
# One static binary under all its names, and the few files that programs expect.
set -eu
apt-get -qq update
cd /tmp
apt-get -qq download busybox-static
dpkg -x busybox-static_*.deb /tmp/unpacked
cd /run/out
mkdir -p bin dev etc home proc root srv sys tmp usr var/tmp
chmod 1777 tmp var/tmp
ln -s ../bin usr/bin
cp "$(find /tmp/unpacked -type f -path '*/bin/busybox')" bin/busybox
for name in $(bin/busybox --list); do
    [ "$name" = busybox ] || ln -s busybox "bin/$name"
done
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >etc/passwd
printf 'root:x:0:\nnogroup:x:65534:\n' >etc/group
printf 'hosts: files dns\n' >etc/nsswitch.conf
: >etc/hosts
: >etc/resolv.conf
