# Second stage of RAUC's addition to a Debian that is installed, inside it. Given the packages in /debs.
set -e
export DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes LC_ALL=C HOME=/root
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
dpkg --install --force-unsafe-io /debs/*.deb
rm -r /debs
test -z "$(dpkg --audit)"

# It signs the bundles, and it is what RAUC trusts.
mkdir -p /etc/rauc
openssl req -x509 -newkey rsa:2048 -nodes -days 36500 -subj /CN=cato-test \
    -keyout /etc/rauc/key.pem -out /etc/rauc/cert.pem
