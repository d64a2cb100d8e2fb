#!/bin/sh
# CPython and its standard library on top of busybox.
set -eu
# shellcheck source=tests/lab/images/closure.sh
. /run/images/closure.sh
apt-get -qq update
apt-get -qq -y install python3
version=$(python3 -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
cd /run/out
take usr/local/bin "/usr/bin/$version"
ln -s "$version" usr/local/bin/python3
ln -s "$version" usr/local/bin/python
mkdir -p usr/lib
cp -a "/usr/lib/$version" usr/lib/
find usr/lib -name __pycache__ -prune -exec rm -rf {} +
# shellcheck disable=SC2046  # these names have no spaces
libraries $(find "usr/lib/$version/lib-dynload" -name '*.so')
